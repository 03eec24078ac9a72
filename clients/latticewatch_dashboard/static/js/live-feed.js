// @ts-check
/**
 * The live frames. The page asks for one, draws it, and only then asks for the next, so that a slow page shows few
 * frames but never old ones. A hidden page does not ask.
 */

import { getJson } from "./access.js";
import { unpackLive } from "./live-message.js";
import { ReturningSocket } from "./socket.js";

const SILENCE_MS = 2000;  // after this long without a message the state is asked for on its own

/**
 * @typedef {import("./live-message.js").LiveHeader} LiveHeader
 * @typedef {import("./live-message.js").Section} Section
 */
export class LiveFeed {
  /**
   * @param {{drawn: (header: LiveHeader, arrays: Record<string, Section>) => void,
   *          status: (status: import("./live-message.js").Status) => void,
   *          changed: (connection: import("./socket.js").Connection) => void,
   *          size: () => number}} handlers
   *   ``drawn`` shows a message; ``status`` takes the state when no frames come; ``size`` is the picture to ask for
   */
  constructor(handlers) {
    this.handlers = handlers;
    /** @type {number | null} */
    this.after = null;
    /** Version whose classes and embedding the page has. @type {number | null} */
    this.modelVersion = null;
    this.owed = false;  // whether a credit is to be given once the page is visible
    this.lastMessage = performance.now();
    this.socket = new ReturningSocket("v1/live", {
      opened: () => {
        this.after = null;  // ordinals belong to a run of the service
        this.modelVersion = null;
        this.lastMessage = performance.now();
        this.ask(true);  // also hidden: a socket that says nothing is closed
      },
      received: (data) => this.received(data),
      changed: handlers.changed,
    });
    document.addEventListener("visibilitychange", () => {
      if (!document.hidden && this.owed) this.ask();
    });
    window.setInterval(() => void this.askStatus(), SILENCE_MS / 2);
  }

  connect() {
    this.socket.connect();
  }

  reconnect() {
    this.socket.reconnect();
  }

  /** Give the credit for one message, unless nobody looks. @param {boolean} [evenHidden] */
  ask(evenHidden = false) {
    this.owed = document.hidden && !evenHidden;
    if (this.owed) return;
    /** @type {Record<string, unknown>} */
    const request = { type: "next", max_size: this.handlers.size() };
    if (this.after !== null) request.after = this.after;
    if (this.modelVersion !== null) request.model_version = this.modelVersion;
    this.socket.send(request);
  }

  /** @param {string | ArrayBuffer} data */
  received(data) {
    this.lastMessage = performance.now();
    if (typeof data === "string") return;
    const { header, arrays } = unpackLive(data);
    const show = () => {
      this.handlers.drawn(header, arrays);
      this.after = header.ordinal;
      if (header.classes) this.modelVersion = header.status.model_version;
      this.ask();
    };
    // A hidden page gets no animation frames: it takes the message in at once and stops asking.
    if (document.hidden) show();
    else requestAnimationFrame(show);
  }

  /** Without frames there are no messages; the state still changes, and people want to see it. */
  async askStatus() {
    if (document.hidden || !this.socket.isOpen || performance.now() - this.lastMessage < SILENCE_MS) return;
    this.lastMessage = performance.now();
    try {
      this.handlers.status(await getJson("v1/status"));
    } catch {
      // the socket's own closing says what is wrong
    }
  }
}
