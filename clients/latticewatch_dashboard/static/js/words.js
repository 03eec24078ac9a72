/**
 * What the scripts of this page say, in one place; what always stands on it is in ``index.html``. Words that depend on
 * something are functions of it. Nothing here touches the document.
 */

import { age, fixed, integer, percent, several, significant } from "./format.js";

export const access = {
  reading: "To show what it sees, this service needs a key with read scope.",
  changing: "To change something, this service needs a key with control scope.",
  refused: (status, text) => `the service answered ${status} ${text}`.trim(),
  unreachable: "the service could not be reached",
};

export const place = {
  nm: (x, y) => `x ${fixed(x, 2)} nm, y ${fixed(y, 2)} nm`,
  px: (row, column) => `row ${fixed(row, 1)}, column ${fixed(column, 1)} px`,
  noSize: "no pixel size",
  intensity: (where, share) => `${where} · intensity ${fixed(100 * share, 0)} % of the range shown`,
};

export const frame = {
  caption: (number) => `frame ${number ?? "–"}`,
  // what is written without a break stays on a line
  size: (height, width) => `${height.toPrecision(3)}\u00a0×\u00a0${width.toPrecision(3)}\u00a0nm`,
  pixels: (rows, columns) => `${rows}\u00a0×\u00a0${columns}\u00a0px`,
  hostsLeftOut: "hosts not marked at this size",
  region: (kind, share) => `${kind.replace("-", " ")} ${percent(share)}`,
};

export const site = {
  none: "Click a site in the frame, or an event: its picture, its class and its past appear here.",
  noTrack: "none yet",
  noClass: "no class",
  unknown: "unknown",
  notClassified: "not classified yet",
  notHere: "not in this frame",
  others: "all others",
  // what is written below a picture, and what it is
  pictures: {
    patch: ["this site", "This site in this frame"],
    average: ["class average", "Average patch of the class"],
    template: ["simulated", "Simulated patch that comes nearest"],
    difference: ["difference", "Average less simulated: red is more, blue is less"],
  },
  bars: "Probability of each class, given this site",
  facts: {
    track: ["track", ""],
    since: ["seen for", "In the frames that are kept here"],
    place: ["position", "In the frame: x along columns, y along rows"],
    shift: ["displaced", "How far this column stands beside its place, with the standard error along either axis"],
    separation: ["d′", "Distance of the class from its host, in standard deviations of the noise of one site"],
    like: ["simulated", "The simulated class that comes nearest, and the share of the difference from the host that it explains"],
  },
  shift: (length, error, angle, x, y) =>
    ` ${fixed(length, 0)} ± ${fixed(error, 0)} pm, ${fixed(Math.abs(angle), 0)}° ${angle > 0 ? "below" : "above"} x (x ${fixed(x, 0)}, y ${fixed(y, 0)} pm)`,
  like: (name, share) => `${name}, ${percent(share)} explained`,
  strip: "Class and confidence of this site over time",
  stripNote: "confidence, coloured by class",
  now: "now",
  ago: (seconds) => `−${fixed(seconds, seconds < 10 ? 1 : 0)} s`,
  follow: "follow",
  replay: "▶ replay its birth",
  replayPicture: "The place of this site around its birth",
  replayGone: "The frames around its birth are no longer kept here.",
  replayFrame: (number, after) => `frame ${number ?? "–"}, ${after < 0 ? "−" : "+"}${fixed(Math.abs(after), 1)} s from when it was told`,
};

export const classes = {
  inFrame: "in frame",
  hint: "in this frame",
  hintToEdit: "in this frame · click a name to change it",
  show: "show in the frame",
  hide: "hide in the frame",
  roleOf: (name) => `Role of class ${name}`,
  isA: (role) => `is a ${role}`,
  mergeOf: (name) => `Merge class ${name} into another`,
  mergeInto: "merge into …",
  undo: "undo the last edit",
  change: "change the name",
  changeOf: (name) => `${name}: change the name`,
  clickToChange: (name) => `${name}: click to change the name`,
  newName: (name) => `New name of class ${name}`,
  average: (name) => `Average patch of class ${name}`,
  mergeTitle: "Merge classes",
  mergeAsk: (names, into) => `Sites of ${names.map((name) => `“${name}”`).join(", ")} will be called “${into}” from now on. This cannot be undone.`,
  mergeSeveral: (n) => `merge ${n} classes`,
  split: (n, name) => `split ${integer(n)} off ${name}`,
  splitOff: (name) => `split off: ${name}`,
  failed: { split: "Not split", role: "Role not changed", merge: "Not merged", undo: "Not taken back", name: "Not renamed", relearn: "Not relearnt" },
  reference: "reference",
  separation: (sigmas) => `d′ ${fixed(sigmas, 1)} σ`,
  like: (name, share) => `like ${name} ${percent(share)}`,
  unlike: "unlike any simulated",
  meaning: "d′: distance of the class from the host of its sublattice, in standard deviations of the noise.",
  seen: (n) => `${integer(n)} sites of this class were seen since learning.`,
  likeMeaning: "Like: share of its difference from the host that the simulated class explains.",
  next: (name, share) => `Next: ${name} ${percent(share)}.`,
  relearnTitle: "Relearn",
  relearnAsk: "All classes are thrown away, with the names given to them, and learnt again from the next frames. This cannot be undone.",
};

export const embedding = {
  size: (n) => several(n, "site"),
  live: (n, number) => `${several(n, "site")}, frame ${number} in squares`,
  label: (n) => `Force-relaxed layout of ${n} learnt sites, coloured by class`,
  points: (name, n) => `${name}: ${several(n, "point")}`,
  above: (sublattice, n) => `${sublattice}: ${n} above the noise`,
  components: (sublattice, variances, edge) =>
    `Variances of the hosts of ${sublattice} along their components [σ²]: ${variances.map((one) => fixed(one, 2)).join(", ")}; noise reaches ${edge === null ? "unknown" : fixed(edge, 2)}`,
};

export const time = {
  noCounts: "Counts appear once classes are learnt.",
  noScalar: (name) => `No frame of this time tells ${name}.`,
  counts: "Defects per frame",
  density: "Defects per nm²",
  inFrame: (n) => `${integer(n)} in this frame`,
  inNewest: (figure) => `${figure} in the newest frame`,
  label: (n, names) => `Defects per frame over the last ${several(n, "frame")}: ${names.join(", ") || "none yet"}`,
  scalarLabel: (name) => `${name} over time`,
  perFrame: "per frame",
  perNm2: "per nm²",
  perMinute: "per min",
  happenings: ["appear", "disappear"],
  rates: (name) => `Defects per min${name ? `, ${name}` : ""}`,
  ratesKey: "appear —, disappear ┄, bands 95 %",
  ratesLabel: "Defects that appear and that disappear, per minute, over time",
  noRates: "Rates appear when frames have been classified for a while.",
  drift: "drift nm",
  dose: "e/Å²",
  noneSeen: "none seen",
  rate: (rate, low, high) => `${significant(rate)} (${significant(low)}–${significant(high)}) per min`,
  notYet: "not known yet",
  notKnown: "not known",
  lifetime: (mean, low, high, unit, ended) => `${mean} (${low}–${high}) ${unit}, ${integer(ended)}\u00a0ended`,
  densityNow: (density) => `${significant(density)} per nm²`,
  doseNow: (dose) => `${dose} electrons/Å²`,
  driftAt: (x, y) => `drift x ${fixed(x, 2)}, y ${fixed(y, 2)} nm`,
  doseAt: (dose) => `dose ${dose} e/Å²`,
  series: "series",
  model: (version) => `model ${version}`,
};

export const events = {
  appeared: "defect appeared",
  found: "defect found, there from the start",
  entered: "defect came into view",
  held: (n) => `${n} new, held`,
  show: "Show this place in the frame",
  shifted: (pm) => `shifted ${fixed(pm, 0)} pm`,
  track: (number) => `track ${number}`,
  frames: (first, last) => `frames ${first} to ${last}`,
  splitFrom: (id) => `was part of class ${id}`,
  tookIn: (n) => `took in ${several(n, "class", "classes")}`,
  version: (number) => `version ${number}`,
  planned: (n) => `${several(n, "frame")} planned`,
  lastFrame: (seconds) => `last frame ${fixed(seconds, 1)} s old`,
};

export const state = {
  learning: (gathered, needed) => `Learning classes: ${gathered} of ${needed} frames gathered`,
  learningPhase: (gathered, needed) => `learning ${gathered} of ${needed} frames`,
  gathered: (detail) => `All frames gathered: ${detail}`,
  old: (seconds) => `${age(seconds)} old`,
  title: (seconds) => `${age(seconds)} old · Latticewatch`,
  noAnswer: "the service does not answer",
  stopped: "frames have stopped",
  ended: "the series has ended",
  late: "frames come, and are analysed late",
  picture: (number) => (number === null ? "" : ` The picture is frame ${number}.`),
  itIsOld: (seconds) => `It is ${age(seconds)} old.`,
  keyNeeded: (picture) => `A key is needed.${picture}`,
  tryingNow: "Trying again now.",
  tryingIn: (seconds) => `Trying again in ${fixed(seconds, 0)} s.`,
  lost: (picture) => `Connection to the service lost.${picture}`,
  stoppedBanner: (picture) => `Frames have stopped.${picture}`,
  endedBanner: (picture) => `The series has ended; the next one is waited for.${picture}`,
  refusing: "Messages come, and none can be read",
  starting: "The service is starting",
  loading: "loading the analysis",
  waiting: "Waiting for frames",
  connecting: "Connecting to the service",
  listeningTo: (sources) => `Listening to ${sources.join(", ")}.`,
  listening: "The service is listening.",
};

export const health = {
  latency: (p50, p99) => `Frame received to events readable: median ${significant(p50)} ms, 99 of 100 within ${significant(p99)} ms`,
  frames: (received, analysed) => `${several(received, "frame")} received, ${integer(analysed)} analysed`,
  dropped: (dropped, rejected) => `Dropped: ${dropped}. Unreadable: ${rejected}.`,
  model: (version) => (version ? `model version ${version}` : "no model yet"),
  noSeries: "none open",
  version: (version) => `Latticewatch ${version}`,
  noFrame: "no frame yet",
  lastFrame: (seconds) => `last frame ${age(seconds)} ago`,
  notFitted: "lattice not fitted yet",
  noLattice: "no lattice found",
  constantNm: (nm) => `lattice constant ${significant(nm)} nm`,
  constantPx: (px) => `lattice constant ${significant(px)} px`,
  lattice: "lattice found",
  pixel: (nm) => `${nm.toPrecision(3)} nm/px`,
};

export const downloads = {
  counted: (name, role) => `${name} (${role}) per frame`,
  copy: "Copy a link to this view",
  copied: "Copied",
  inAddress: "It is in the address line",
  legend: (name, n) => `${name}: ${integer(n)} in the frame`,
};

// The help sheet: signs, words and keys, each with what it means.

export const SIGNS = /** @type {[string, string][]} */ ([
  ["circle", "a column that is gone"],
  ["down", "a weaker column than its host"],
  ["up", "a stronger column"],
  ["diamond", "a displaced column"],
  ["square", "a column off the lattice"],
  ["hexagon", "odd in another way"],
]);
export const WORDS = [
  ["A, B …", "sublattices, the brightest first"],
  ["B −42 %", "columns of B that are 42\u00a0% less bright than their host"],
  ["d′", "distance of a class from its host, in standard deviations σ of the noise of one site"],
  ["confidence", "probability of the class, given this site; drawn as opacity"],
  ["displaced 35\u00a0±\u00a04\u00a0pm", "length of the displacement and its standard error; the angle is from x, along columns"],
  ["like V_S 93 %", "share of the difference from the host that the simulated class explains"],
  ["neighbour", "a host column that looks different because of a defect beside it; has its hue"],
  ["not analysed", "hatched: dirt, or no specimen; no site is looked for there"],
  ["unknown", "unlike any class that is known; a dashed ring"],
  ["picture … old", "time since the service received the frame on the screen"],
  ["analysis takes", "time from a frame received to its events readable, median"],
  ["dropped", "frames received and not analysed, or not readable"],
  ["lost upstream", "frames that the sender numbered and that never came"],
  ["(low–high)", "interval of confidence, 95 %"],
  ["drift", "how far the specimen has moved since the series started: x a line, y dashed"],
  ["dose", "electrons per Å² in the time that is shown"],
];
export const KEYS = [
  ["n p", "next and previous defect"],
  ["+ − 0", "zoom in, out, whole frame"],
  ["arrows", "move"],
  ["space", "pause, or back to live"],
  [", .", "one frame back, one on"],
  ["End", "back to the newest frame"],
  ["l", "lock the view to the sample"],
  ["t", "trails"],
  ["Escape", "let the site go"],
  ["?", "this page"],
];

export const HELP = { signs: "Signs", colours: "Colours", keys: "Keys", words: "Words and numbers", hue: "hue", hueMeaning: "warm on sublattice A, cool on B; of a class that a person named, its own. The same after relearning and everywhere" };
