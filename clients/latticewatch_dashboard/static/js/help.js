// @ts-check
/** What the numbers and signs mean, and the keys: the same words as in the handbook. */

import { byId, element } from "./dom.js";
import { sign } from "./sign.js";

const SIGNS = /** @type {[string, string][]} */ ([
  ["circle", "a column that is gone"],
  ["down", "a weaker column than its host"],
  ["up", "a stronger column"],
  ["diamond", "a displaced column"],
  ["square", "a column off the lattice"],
  ["hexagon", "odd in another way"],
]);
const WORDS = [
  ["A, B …", "sublattices, the brightest first"],
  ["B −42 %", "columns of B that are 42 % less bright than their host"],
  ["d′", "distance of a class from its host, in standard deviations σ of the noise of one site"],
  ["confidence", "probability of the class, given this site; drawn as opacity"],
  ["like V_S 93 %", "share of the difference from the host that the simulated class explains"],
  ["neighbour", "a host column that looks different because of a defect beside it; has its hue"],
  ["unknown", "unlike any class that is known; a dashed ring"],
  ["picture … old", "time since the service received the frame on the screen"],
  ["analysis takes", "time from a frame received to its events readable, median"],
  ["dropped", "frames received and not analysed, or not readable"],
  ["lost upstream", "frames that the sender numbered and that never came"],
  ["(low–high)", "interval of confidence, 95 %"],
  ["drift", "how far the specimen has moved since the series started"],
];
const KEYS = [
  ["n p", "next and previous defect"],
  ["+ − 0", "zoom in, out, whole frame"],
  ["arrows", "move"],
  ["space", "pause, or back to live"],
  [", .", "one frame back, one on"],
  ["l", "lock the view to the sample"],
  ["t", "trails"],
  ["Escape", "let the site go"],
  ["?", "this page"],
];

export function attachHelp() {
  byId("help-body").append(element("div", {},
    part("Signs", SIGNS.map(([shape, text]) => [sign(shape, "currentColor"), text])),
    part("Colours", [["hue", "warm on sublattice A, cool on B; of a class that a person named, its own. The same after relearning and everywhere"]]),
    part("Keys", KEYS.map(([keys, text]) => [keys.split(" ").map((key) => element("kbd", { text: key })), text])),
  ), part("Words and numbers", WORDS));
  byId("show-help").addEventListener("click", () => byId("help").showModal());
}

/** @param {string} title @param {any[][]} rows */
function part(title, rows) {
  const list = element("dl", {});
  for (const [name, text] of rows) {
    const term = element("dt", {});
    term.append(...(Array.isArray(name) ? name : [name]));
    list.append(term, element("dd", { text }));
  }
  return element("section", {}, element("h3", { text: title }), list);
}
