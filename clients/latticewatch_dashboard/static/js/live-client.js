/** The page's end of the worker: what it tells, and what it is told. */

import { apiUrl, askForKey, currentKey } from "./access.js";

const MAX_BYTES = 160e6;  // of frames kept for looking again
const MAX_BYTES_SMALL = 48e6;  // on a phone or a tablet

export class LiveClient {
  /**
   * @param {HTMLCanvasElement} canvas given away to the worker
   * @param {Record<string, (message: any) => void>} handlers by the type of message
   * @param {{view: object, style: object, contrast: object}} first
   */
  constructor(canvas, handlers, first) {
    this.handlers = handlers;
    this.worker = new Worker(new URL("./live/worker.js", import.meta.url), { type: "module" });
    this.worker.onmessage = ({ data }) => this.take(data);
    const offscreen = canvas.transferControlToOffscreen();
    const small = window.matchMedia("(max-width: 820px)").matches;
    this.worker.postMessage(
      { type: "start", canvas: offscreen, base: String(apiUrl(".")), key: currentKey(), maxBytes: small ? MAX_BYTES_SMALL : MAX_BYTES, ...first },
      [offscreen],
    );
    document.addEventListener("visibilitychange", () => this.tell("hidden", { hidden: document.hidden }));
  }

  /** @param {string} type @param {object} [facts] */
  tell(type, facts = {}) {
    this.worker.postMessage({ type, ...facts });
  }

  /** @param {any} message */
  take(message) {
    if (message.type === "key") {
      void askForKey().then((given) => this.tell("key", { key: given ? currentKey() : null }));
      return;
    }
    this.handlers[message.type]?.(message);
    if (message.type === "summary") this.tell("read");
  }
}
