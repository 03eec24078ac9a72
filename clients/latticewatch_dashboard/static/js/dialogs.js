/** A question before something that cannot be taken back. */

import { byId, say } from "./dom.js";

/** @param {string} title @param {string} text @returns {Promise<boolean>} whether to go on */
export function confirmed(title, text) {
  const dialog = byId("ask");
  say("ask-title", title);
  say("ask-text", text);
  dialog.returnValue = "no";
  dialog.showModal();
  return new Promise((resolve) => dialog.addEventListener("close", () => resolve(dialog.returnValue === "yes"), { once: true }));
}
