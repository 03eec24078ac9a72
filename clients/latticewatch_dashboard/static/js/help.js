/** What the numbers and signs mean, and the keys: the same words as in the handbook. */

import { byId, element, on } from "./dom.js";
import { sign } from "./sign.js";
import { HELP, KEYS, SIGNS, WORDS } from "./words.js";

export function attachHelp() {
  byId("help-body").append(element("div", {},
    part(HELP.signs, SIGNS.map(([shape, text]) => [sign(shape, "currentColor"), text])),
    part(HELP.colours, [[HELP.hue, HELP.hueMeaning]]),
    part(HELP.keys, KEYS.map(([keys, text]) => [keys.split(" ").map((key) => element("kbd", { text: key })), text])),
  ), part(HELP.words, WORDS));
  on("show-help", "click", () => byId("help").showModal());
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
