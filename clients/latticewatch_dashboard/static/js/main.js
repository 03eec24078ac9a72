/** The page: what the worker shows goes to every panel, and what people choose in one of them reaches the others. */

import { ApiError, askForKey, currentKey, getJson, postJson } from "./access.js";
import { ClassCards } from "./class-cards.js";
import { closeOutside, ContrastMenu } from "./contrast.js";
import { confirmed } from "./dialogs.js";
import { byId, element, on, say } from "./dom.js";
import { save, saveTable, sitesTable } from "./downloads.js";
import { EmbeddingPlot } from "./embedding-plot.js";
import { EventList } from "./event-list.js";
import { integer, percent, several } from "./format.js";
import { FrameView } from "./frame-view.js";
import { attachHelp } from "./help.js";
import { CountHistory } from "./history.js";
import { Inspector } from "./inspector.js";
import { Layout } from "./layout.js";
import { LiveClient } from "./live-client.js";
import { showNotices } from "./notices.js";
import { Settings } from "./settings.js";
import { SpacePanel } from "./space.js";
import { StatusBar } from "./status-bar.js";
import { Timeline } from "./timeline.js";
import { access, classes as classWords, downloads, embedding as embeddingWords, frame as frameWords, place, time as timeWords } from "./words.js";
/** @import {ClassSummary, Connection, LiveHeader, News, ServiceEvent, Status, Summary} from "./types.d.ts" */

const CHART_EVERY_MS = 400;  // faster than this, a line over a minute only flickers
const TICK_MS = 250;
const SAID_MS = 3000;  // what was done stands so long
const BEFORE_S = 60;  // shown of the time before the page was opened

/** @type {Map<number, ClassSummary>} */
let catalogue = new Map();
/** @type {Connection} */
let connection = { state: "connecting" };
/** @type {Summary | null} */
let last = null;
/** @type {string | null} */
let series = null;
/** @type {number | null} when the frame last counted was received */
let countedAt = null;
let chartedAt = -Infinity;
/** @type {ReturnType<typeof setTimeout> | undefined} draws the counts that came too soon after others */
let chartTimer;
/** @type {LiveHeader["counts"] | undefined} the newest, whether drawn or not */
let newestCounts;
/** What is chosen, everywhere: a site by its track, the event that led there, a class. */
const chosen = { track: -1, site: -1, follow: false, /** @type {ServiceEvent | null} */ event: null };
/** @type {Set<number>} */
let hiddenClasses = new Set();
/** @type {number | null} */
let emphasis = null;
/** @type {string | null | undefined} key whose rights are known */
let keyAsked;

const settings = new Settings();
if (settings.values.theme === "light") document.documentElement.dataset.theme = "light";
if (new URLSearchParams(location.search).has("wall")) document.documentElement.dataset.wall = "";

const layout = new Layout();
const history = new CountHistory();
const statusBar = new StatusBar();
const timeline = new Timeline({
  sought: (time) => live.tell("seek", { time }),
  pointed: (time) => {
    const reach = time === null ? 0 : timeline.nearness;
    crossAt(events.light(time === null ? null : (one) => Math.abs(timeOf(one) - time) <= reach));
  },
});
timeline.setRange(settings.values.range);
timeline.setKind(settings.values.chart);

const frameView = new FrameView({
  moved: () => live?.tell("view", { view: viewOf() }),
  chosen: (track, site) => choose(track, site),
  pointed: (track) => {
    const event = events.light(track < 0 ? null : ({ data }) => data.track === track);
    timeline.point(event ? timeOf(event) : null);
  },
  probed: (row, column) => live.tell("probe", { row, column }),
}, settings.at);
const inspector = new Inspector({
  centre: () => {
    chosen.follow = true;
    const site = frameView.sites.ofTrack(chosen.track);
    if (site >= 0) frameView.goTo(frameView.sites.row(site), frameView.sites.column(site));
    live.tell("select", { track: chosen.track, follow: true });
  },
  replay: () => void replay(),
  patchSize: (px) => live.tell("patch", { px }),
});
const embedding = new EmbeddingPlot(byId("embedding"), {
  lassoed,
  picked: (classId, track) => {
    if (cards.cards.has(classId)) cards.choose(classId);
    if (track >= 0) choose(track, frameView.sites.ofTrack(track));
  },
});
const space = new SpacePanel(embedding, (wanted) => live.tell("space", { wanted }));
const cards = new ClassCards({
  emphasised: (classId) => emphasise(classId ?? cards.choice),
  chosen: (classId) => {
    emphasise(classId);
    timeline.setClass(catalogue.get(classId ?? -1) ?? null);
    if (newestCounts) takeCounts(newestCounts);
    drawChart();
  },
  hidden: (classIds) => {
    hiddenClasses = classIds;
    live.tell("style", { style: styleOf() });
  },
  renamed: (classId, name) => {
    const summary = catalogue.get(classId);
    if (summary) takeClasses([...catalogue.values()].map((one) => (one === summary ? { ...one, name } : one)));
  },
});
const events = new EventList({ lookOf: (classId) => catalogue.get(classId), chosen: (event) => goToEvent(event), pointed: (event) => {
  timeline.point(event && timeOf(event));
  crossAt(event);
} });
const contrast = new ContrastMenu(settings.values, (values) => {
  settings.set(values);
  live.tell("contrast", { contrast: levels(values) });
});

const live = new LiveClient(
  byId("picture"),
  {
    summary: takeSummary,
    status: ({ status, counts, ...news }) => {
      takeNews(news, status.model_version);
      if (counts) takeCounts(counts);
      takeStatus(status);
    },
    connection: ({ connection: now }) => {
      connection = now;
      statusBar.setConnected(now.state === "open");
      if (now.state === "open") void askRights();
      tick();
    },
    events: ({ events: list }) => list.forEach(takeEvent),
    restarted: () => events.clear(),
    level: ({ row, column, level }) => frameView.showLevel(row, column, level),
    replay: (found) => inspector.play(found),
    picture: ({ blob }) => save(blob, `${fileName()}.png`),
  },
  { view: viewOf(), style: styleOf(), contrast: levels(contrast.values) },
);
tellOptions();
if (settings.track >= 0) choose(settings.track, -1);

/** When it happened [s]. @param {ServiceEvent} event */
const timeOf = (event) => Date.parse(event.time) / 1000;

function viewOf() {
  return { ...frameView.view.place, ratio: frameView.ratio, number: frameView.number };
}

function styleOf() {
  const { defect, neighbour, host, unknown, regions } = settings.values;
  return { shown: { defect, neighbour, host, unknown, regions }, rem: parseFloat(getComputedStyle(document.documentElement).fontSize), emphasis, hidden: [...hiddenClasses] };
}

/** @param {import("./contrast.js").Contrast} contrast in percent */
function levels({ black, white, gamma, map }) {
  return { black: 2.55 * black, white: 2.55 * white, gamma, map };
}

function tellOptions() {
  const { trails, locked } = settings.values;
  live.tell("options", { trails, locked });
}

/** @param {Summary} summary */
function takeSummary(summary) {
  const { header, newest } = summary;
  last = summary;
  if (newest.series_id !== null && newest.series_id !== series) {
    series = newest.series_id;
    history.boundary();
  }
  takeNews(summary, newest.status.model_version);
  if (header.shape) layout.setShape(header.shape[0], header.shape[1]);
  frameView.show(summary);
  showRegions(summary.regions);
  say("frame-caption", caption(header));
  contrast.show(summary.histogram);
  byId("stage").closest(".frame").classList.toggle("paused", summary.paused);
  byId("pause").setAttribute("aria-pressed", String(summary.paused));
  timeline.seen = summary.paused ? header.t_received : null;
  statusBar.setPicture(summary.age, summary.paused);
  const { dataset } = byId("stage");
  dataset.frame = String(header.frame);
  for (const [name, value] of Object.entries(summary.stats)) dataset[name] = String(Math.round(value * 100) / 100);
  // The same frame comes again when its state changes: a class was renamed, the stream has stalled. Before there
  // are classes there is nothing to count.
  if (newest.counts.by_class.length && newest.t_received !== null && newest.t_received !== countedAt) {
    countedAt = newest.t_received;
    const first = history.length === 0;
    history.push(countedAt, newest.counts.by_class);
    if (first) void recall(countedAt);
  }
  takeCounts(newest.counts);
  takeStatus(newest.status, summary.newestAge);
  inspect();
  const drift = newest.drift_nm;
  if (newest.t_received !== null) timeline.drifted(newest.t_received, drift);
  say("rate-drift", drift ? place.nm(drift[0], drift[1]) : "–");
}

/** How much of the frame is not analysed, and why. @param {Map<string, number>} regions */
function showRegions(regions) {
  const button = byId("show-regions");
  button.hidden = !regions.size;
  if (!regions.size) return;
  say("count-regions", percent([...regions.values()].reduce((sum, one) => sum + one, 0)));
  button.title = [...regions].map(([kind, share]) => frameWords.region(kind, share)).join(", ");
}

/** Put what was counted before this page looked in front of the chart. @param {number} now time of the first frame [s] */
async function recall(now) {
  try {
    const of = series;
    const past = await getJson(`v1/history?points=400&since=${now - BEFORE_S}`);
    if (of !== series) return;
    history.precede(past.end, past.by_class);
    chartCounts();
  } catch {
    // The chart begins with the frames that come; what ails the connection is said elsewhere.
  }
}

/** @param {Status} status @param {number} [age] of the newest frame [s] */
function takeStatus(status, age) {
  statusBar.update(age === undefined ? status : { ...status, last_frame_age_s: age });
  tick();
}

/** What comes only when it is another one. @param {News} news @param {number} version */
function takeNews({ classes, embedding: points, embeddingClass, space: now }, version) {
  if (classes) takeClasses(classes, version);
  if (points && embeddingClass) takeEmbedding(points, embeddingClass);
  if (now) space.take(now);
}

/** @param {ClassSummary[]} classes @param {number} [version] */
function takeClasses(classes, version = statusBar.status?.model_version ?? 0) {
  catalogue = new Map(classes.map((summary) => [summary.class_id, summary]));
  history.keepOnly(new Set(catalogue.keys()));
  frameView.looks = catalogue;
  embedding.looks = catalogue;
  embedding.draw();
  cards.update(classes, version);
  events.sign();
  if (!classes.length) space.clear();
  chartedAt = -Infinity;
  offerEdits();
}

/** @param {Float32Array} points @param {Int16Array} classId */
function takeEmbedding(points, classId) {
  if (space.live) return;  // the live one takes its place
  embedding.setPoints(points, classId);
  embedding.draw();
  byId("no-embedding").hidden = embedding.length > 0;
  say("embedding-size", embedding.length ? embeddingWords.size(embedding.length) : "");
  byId("embedding").setAttribute("aria-label", embeddingWords.label(embedding.length));
}

/** @param {LiveHeader["counts"]} counts */
function takeCounts(counts) {
  // Before there are classes every site is "unknown", which would only alarm.
  const learnt = counts.by_class.length > 0;
  for (const role of ["defect", "neighbour", "host", "unknown"]) {
    say(`count-${role}`, learnt ? integer(counts.by_role[role] ?? 0) : "–");
  }
  const defects = counts.by_role.defect ?? 0;
  timeline.total = learnt ? timeWords.inFrame(defects) : "";
  const [rows, columns] = last?.newest.shape ?? [0, 0];
  const nm = last?.newest.pixel_size_nm;
  const area = nm ? rows * columns * nm * nm : 0;
  const { of } = timeline;
  const here = of ? (counts.by_class.find(({ class_id: id }) => id === of.class_id)?.n ?? 0) : defects;
  say("rate-density", learnt && area ? timeWords.densityNow(here / area) : "–");
  newestCounts = counts;
  // The last counts before a stream stops are drawn too, when their turn comes.
  const wait = CHART_EVERY_MS - (performance.now() - chartedAt);
  if (wait <= 0) chartCounts();
  else chartTimer ??= setTimeout(chartCounts, wait);
}

/** Draw the newest counts on the class cards and the chart. */
function chartCounts() {
  clearTimeout(chartTimer);
  chartTimer = undefined;
  if (newestCounts === undefined) return;
  chartedAt = performance.now();
  cards.updateCounts(new Map(newestCounts.by_class.map(({ class_id: id, n }) => [id, n])), history);
  drawChart();
}

function drawChart() {
  const lines = [...catalogue.values()].filter(({ role }) => role === "defect");
  timeline.draw(history, lines);
  if (countedAt !== null) void timeline.refresh(countedAt);
}

/** @param {ServiceEvent} event */
function takeEvent(event) {
  events.add(event);
  const time = timeOf(event);
  if (event.type === "series.started") timeline.mark({ time, label: timeWords.series });
  else if (event.type === "model.updated") timeline.mark({ time, label: timeWords.model(event.data.model_version) });
  else if (event.type.startsWith("defect.")) timeline.tick(time, event.data.class_id);
}

/** @param {LiveHeader} header */
function caption({ frame, shape, pixel_size_nm: nm, hosts_left_out: left }) {
  const parts = [frameWords.caption(frame)];
  // what is cut where there is little room stands last
  if (shape && nm) parts.push(frameWords.size(shape[0] * nm, shape[1] * nm));
  if (shape) parts.push(frameWords.pixels(shape[0], shape[1]));
  if (left) parts.push(frameWords.hostsLeftOut);
  return parts.join(" · ");
}

/** A class stands out everywhere. @param {number | null} classId */
function emphasise(classId) {
  if (emphasis === classId) return;
  emphasis = classId;
  live.tell("style", { style: styleOf() });
  embedding.emphasis = classId;
  embedding.draw();
}

/** Choose a site, or none. @param {number} track @param {number} site in the frame on the screen @param {ServiceEvent | null} [event] */
function choose(track, site, event = null) {
  Object.assign(chosen, { track, site, event, follow: event !== null });
  frameView.track = track;
  embedding.track = track;
  embedding.draw();
  live.tell("select", { track, follow: chosen.follow });
  if (site < 0 && track < 0) inspector.clear();
  else {
    layout.open("inspector");
    inspect();
  }
}

function inspect() {
  if (!last || (chosen.track < 0 && chosen.site < 0)) return;
  const { sites } = frameView;
  // a site that is not followed is known only in the frame in which it was pointed at
  const site = chosen.track >= 0 ? sites.ofTrack(chosen.track) : chosen.site < sites.length ? chosen.site : -1;
  inspector.show({ track: chosen.track, site, sites, summary: last, looks: catalogue });
}

/** Where the place of an event lies in the frame on the screen: the drift since then is added. @param {ServiceEvent} event */
function placeNow({ data }) {
  let { row, col } = data.px;
  const header = last?.header;
  const size = header?.pixel_size_nm;
  if (header?.drift_nm && data.drift_nm && size && header.series_id === data.series_id) {
    col += (header.drift_nm[0] - data.drift_nm.x) / size;
    row += (header.drift_nm[1] - data.drift_nm.y) / size;
  }
  return { row, column: col };
}

/** Mark the place of an event in the frame, or none. @param {ServiceEvent | null | undefined} event */
function crossAt(event) {
  frameView.cross(event?.data.px ? placeNow(event) : null);
}

/** Show the place of an event where it is now, and follow what is there. @param {ServiceEvent} event */
function goToEvent(event) {
  const { track, class_id: classId } = event.data;
  const { sites, spacing } = frameView;
  let site = sites.ofTrack(track);
  const place = placeNow(event);
  const inside = last?.header.shape && place.row >= 0 && place.column >= 0
    && place.row < last.header.shape[0] && place.column < last.header.shape[1];
  if (site >= 0) frameView.goTo(sites.row(site), sites.column(site));
  else if (inside) {
    site = sites.nearest(place.row, place.column, spacing / 2);
    frameView.goTo(place.row, place.column);
  }
  byId("markers").focus({ preventScroll: true });
  // what is followed is what is there now, if the track itself has ended
  choose(site >= 0 ? sites.track[site] : track, site, event);
  if (site >= 0) frameView.hover(site, true);
  if (classId !== undefined && cards.cards.has(classId)) cards.cards.get(classId)?.root.scrollIntoView({ block: "nearest" });
}

/** The seconds before and after the site was told to be a defect. */
async function replay() {
  if (!last || chosen.track < 0) return;
  /** @type {ServiceEvent | null} */
  let event = chosen.event;
  if (!event) {
    try {
      const { last_seq: end } = await getJson("v1/status");
      const { events: found } = await getJson(`v1/events?after=${Math.max(0, end - 1000)}&limit=1000&types=defect.appeared,defect.reclassified`);
      event = found.reverse().find((one) => one.data.track === chosen.track) ?? null;
    } catch {
      event = null;
    }
  }
  const site = frameView.sites.ofTrack(chosen.track);
  const px = event?.data.px ?? (site >= 0 ? { row: frameView.sites.row(site), col: frameView.sites.column(site) } : null);
  if (!px) return;
  const drift = event?.data.drift_nm ? [event.data.drift_nm.x, event.data.drift_nm.y] : null;
  live.tell("replay", {
    track: chosen.track, time: event?.data.t_received ?? last.header.t_received, row: px.row, column: px.col,
    size: Math.round(3.2 * frameView.spacing), drift,
  });
}

/** What was drawn round in the embedding: its classes, and what can be done with them. @param {Map<number, number>} found */
function lassoed(found) {
  const box = byId("lasso");
  const classes = [...found].filter(([id]) => catalogue.has(id)).sort((a, b) => b[1] - a[1]);
  box.hidden = !classes.length;
  if (!classes.length) {
    cards.choose(null);
    return;
  }
  const [[first]] = classes;
  cards.choose(first);
  const items = classes.slice(0, 4).map(([id, n]) => element("span", { text: embeddingWords.points(catalogue.get(id)?.name, n) }));
  if (cards.mayEdit && classes.length > 1) {
    const names = classes.map(([id]) => catalogue.get(id)?.name);
    const merge = element("button", { text: classWords.mergeSeveral(classes.length) });
    merge.addEventListener("click", async () => {
      const sure = await confirmed(classWords.mergeTitle, classWords.mergeAsk(names.slice(1), names[0]));
      const card = cards.cards.get(first);
      if (sure && card) await cards.change(card, { merge: classes.slice(1).map(([id]) => id) }, null, classWords.failed.merge);
      box.hidden = true;
    });
    items.push(merge);
  }
  if (cards.mayEdit) {
    const [[, n]] = classes;
    const line = embedding.line();
    if (line && n < embedding.number(first)) {
      const split = element("button", { text: classWords.split(n, catalogue.get(first)?.name) });
      split.addEventListener("click", () => void splitOff(first, line));
      items.push(split);
    }
    items.push(nameButton(first));
  }
  box.replaceChildren(...items);
}

/** @param {number} id */
function nameButton(id) {
  const name = element("button", { text: classWords.change });
  name.addEventListener("click", () => {
    const card = cards.cards.get(id);
    layout.open("classes");
    if (card) cards.edit(card);
  });
  return name;
}

/** Make what was drawn round a class of its own, and offer a name for it and the way back. @param {number} id @param {{layout: number, line: number[][]}} line */
async function splitOff(id, line) {
  const box = byId("lasso");
  try {
    const made = await postJson(`v1/classes/${id}/split`, line);
    cards.undo = { id, change: { merge: [made.class_id] } };
    const undo = element("button", { text: classWords.undo });
    undo.addEventListener("click", () => {
      box.hidden = true;
      void cards.takeBack();
    });
    box.replaceChildren(element("span", { role: "status", text: classWords.splitOff(made.name) }), nameButton(made.class_id), undo);
    cards.awaited = made.class_id;
  } catch (error) {
    box.append(element("p", { class: "class-error", role: "alert", text: `${classWords.failed.split}: ${reasonOf(error)}` }));
  }
}

/** Why something was not done, in words. @param {unknown} error */
const reasonOf = (error) => (error instanceof ApiError ? error.message : access.unreachable);

/** Controls that this page's key may not use are not there. */
async function askRights() {
  try {
    keyAsked = currentKey();
    const { scopes } = await getJson("v1/access");
    keyAsked = currentKey();
    setRights(scopes.includes("control"));
  } catch {
    // an older service: it says no when something is tried
  }
}

/** @param {boolean} mayEdit */
function setRights(mayEdit) {
  cards.setMayEdit(mayEdit);
  byId("use-key").hidden = mayEdit;
  offerEdits();
}

/** What may be changed, where there is something to change. */
function offerEdits() {
  byId("relearn").hidden = !cards.mayEdit || !catalogue.size;
  say("classes-hint", !catalogue.size ? "" : cards.mayEdit ? classWords.hintToEdit : classWords.hint);
}

function fileName() {
  const header = last?.header;
  return `latticewatch-${(header?.series_id ?? "series").replace(/[^\w.-]+/g, "_").slice(0, 60)}-frame-${header?.frame ?? 0}`;
}

function saveCounts() {
  const lines = [...catalogue.values()];
  const rows = Array.from({ length: history.length }, (_, i) => {
    const slot = history.slot(i);
    return [history.time[slot], ...lines.map(({ class_id: id }) => history.counts.get(id)?.[slot] ?? 0)];
  }).filter(([time]) => Number.isFinite(time));
  saveTable([["time_s_since_1970", ...lines.map(({ name, role }) => downloads.counted(name, role))], ...rows], `${fileName()}-counts.csv`);
}

function tick() {
  statusBar.tick();
  showNotices({ connection, status: statusBar.status, age: statusBar.pictureAge, paused: statusBar.paused, drawn: last ? last.header.frame : null });
  if (currentKey() !== keyAsked && connection.state === "open") void askRights();
}

for (const role of /** @type {const} */ (["defect", "neighbour", "host", "unknown", "regions"])) {
  const button = byId(`show-${role}`);
  button.setAttribute("aria-pressed", String(settings.values[role]));
  button.addEventListener("click", () => {
    const shown = button.getAttribute("aria-pressed") !== "true";
    button.setAttribute("aria-pressed", String(shown));
    settings.set({ [role]: shown });
    live.tell("style", { style: styleOf() });
  });
}
for (const [id, name] of /** @type {const} */ ([["lock", "locked"], ["trails", "trails"]])) {
  const button = byId(id);
  button.setAttribute("aria-pressed", String(settings.values[name]));
  button.addEventListener("click", () => {
    settings.set({ [name]: !settings.values[name] });
    button.setAttribute("aria-pressed", String(settings.values[name]));
    tellOptions();
  });
}
/** One of several buttons. @param {string} name of their data @param {string} value @param {(value: string) => void} act */
function choice(name, value, act) {
  const buttons = /** @type {HTMLElement[]} */ ([...document.querySelectorAll(`[data-${name}]`)]);
  const press = (now) => buttons.forEach((one) => one.setAttribute("aria-pressed", String(one.dataset[name] === now)));
  press(value);
  for (const button of buttons) {
    button.addEventListener("click", () => {
      const now = /** @type {string} */ (button.dataset[name]);
      press(now);
      act(now);
    });
  }
}
choice("range", String(settings.values.range), (value) => {
  settings.set({ range: Number(value) });
  timeline.setRange(Number(value));
  if (countedAt !== null) void timeline.refresh(countedAt).then(drawChart);
});
const setChart = (kind) => {
  settings.set({ chart: kind });
  timeline.setKind(kind);
  drawChart();
};
choice("chart", settings.values.chart, setChart);
on("chart-scalar", "change", () => {
  const kind = byId("chart-scalar").value;
  if (kind) setChart(kind);
  else byId("chart-count").click();
});
const togglePause = () => live.tell(last?.paused ? "resume" : "pause");
for (const [id, act] of /** @type {[string, () => void][]} */ ([
  ["zoom-in", () => frameView.view.zoom(1.5)],
  ["zoom-out", () => frameView.view.zoom(1 / 1.5)],
  ["zoom-fit", () => frameView.view.fit()],
])) {
  on(id, "click", () => {
    act();
    frameView.moved();
  });
}
on("pause", "click", togglePause);
on("step-back", "click", () => live.tell("step", { by: -1 }));
on("step-on", "click", () => live.tell("step", { by: 1 }));
on("go-live", "click", () => live.tell("resume"));
on("unpin", "click", () => choose(-1, -1));
on("theme", "click", () => {
  const theme = document.documentElement.dataset.theme === "light" ? "dark" : "light";
  document.documentElement.dataset.theme = theme;
  settings.set({ theme });
  cards.update([...catalogue.values()], statusBar.status?.model_version ?? 0);
  embedding.draw();
  drawChart();
});
on("save-png", "click", () => {
  const lines = (newestCounts?.by_class ?? []).filter(({ role }) => role === "defect")
    .map(({ class_id: id, name, n }) => ({ colour: catalogue.get(id)?.colour ?? "#ffffff", shape: catalogue.get(id)?.shape ?? "circle", text: downloads.legend(name, n) }));
  live.tell("picture", { legend: { bar: frameView.bar, title: `${last?.header.series_id ?? ""} · ${byId("frame-caption").textContent}`, lines } });
});
on("save-sites", "click", () => {
  if (last) saveTable(sitesTable(frameView.sites, last.header, catalogue), `${fileName()}-sites.csv`);
});
on("save-counts", "click", saveCounts);
on("copy-link", "click", () => {
  const link = settings.link(frameView.view.at, chosen.track);
  window.history.replaceState(null, "", link);
  // without a secure connection a page may not copy
  const copied = navigator.clipboard?.writeText(link) ?? Promise.reject(new Error());
  copied.then(() => downloads.copied, () => downloads.inAddress).then((text) => {
    say("copy-link", text);
    setTimeout(() => say("copy-link", downloads.copy), SAID_MS);
  });
});
on("download", "click", (event) => {
  const button = /** @type {Element} */ (event.target).closest("button");
  if (button && button.id !== "copy-link") byId("download").open = false;
});
closeOutside(byId("download"));
on("relearn", "click", async () => {
  const sure = await confirmed(classWords.relearnTitle, classWords.relearnAsk);
  if (sure) await postJson("v1/model:relearn").then(takeStatus).catch((error) => say("classes-hint", `${classWords.failed.relearn}: ${reasonOf(error)}`));
});
on("use-key", "click", async () => {
  if (await askForKey(access.changing)) await askRights();
});
on("retry", "click", () => live.tell("reconnect"));
attachHelp();

/** @type {Record<string, () => void>} */
const KEYS = {
  " ": togglePause,
  ",": () => live.tell("step", { by: -1 }),
  ".": () => live.tell("step", { by: 1 }),
  End: () => live.tell("resume"),
  l: () => byId("lock").click(),
  t: () => byId("trails").click(),
  "?": () => byId("help").showModal(),
  Escape: () => {
    frameView.hover(-1);
    choose(-1, -1);
    cards.choose(null);
  },
};
document.addEventListener("keydown", (event) => {
  const at = /** @type {Element} */ (event.target);
  if (event.ctrlKey || event.metaKey || event.altKey || !Object.hasOwn(KEYS, event.key)) return;
  if (at.closest("input, select, dialog, details[open]") || (event.key === " " && at.closest("button, summary"))) return;
  event.preventDefault();
  KEYS[event.key]();
});
window.setInterval(tick, TICK_MS);
