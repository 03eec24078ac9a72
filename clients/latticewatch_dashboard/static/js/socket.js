// @ts-check
/** A websocket that comes back: reconnects with growing pauses, and asks for the key when the service wants one. */

import { ApiError, askForKey, currentKey, getJson, socketUrl } from "./access.js";

const FIRST_PAUSE_MS = 500;
const LONGEST_PAUSE_MS = 10_000;
const UNAUTHORIZED = 4401;

/**
 * State of the connection; a lost one without ``retryAt`` waits for the person.
 * @typedef {{state: "connecting" | "open" | "lost", retryAt?: number}} Connection
 */
export class ReturningSocket {
  /**
   * @param {string} path
   * @param {{opened: (send: (message: object) => void) => void | Promise<void>,
   *          received: (data: string | ArrayBuffer) => void,
   *          changed?: (connection: Connection) => void}} handlers
   */
  constructor(path, { opened, received, changed = () => {} }) {
    this.path = path;
    this.opened = opened;
    this.received = received;
    this.changed = changed;
    this.pause = FIRST_PAUSE_MS;
    /** @type {WebSocket | null} */
    this.socket = null;
    this.greeted = false;
    this.timer = 0;
  }

  get isOpen() {
    return this.socket?.readyState === WebSocket.OPEN;
  }

  connect() {
    window.clearTimeout(this.timer);
    if (this.socket) return;
    const socket = new WebSocket(socketUrl(this.path));
    socket.binaryType = "arraybuffer";
    this.socket = socket;
    this.greeted = false;
    this.changed({ state: "connecting" });
    socket.addEventListener("open", () => {
      this.changed({ state: "open" });
      void this.opened((message) => this.send(message));
    });
    socket.addEventListener("message", ({ data }) => {
      this.pause = FIRST_PAUSE_MS;  // only a connection that delivers counts as good
      this.received(data);
    });
    socket.addEventListener("close", ({ code }) => void this.closed(code));
  }

  /** Send a message; the first one of a connection carries the key. @param {object} message */
  send(message) {
    if (!this.isOpen) return;
    const key = this.greeted ? null : currentKey();
    this.greeted = true;
    this.socket?.send(JSON.stringify(key ? { ...message, key } : message));
  }

  /** Give this connection up, and come back after the usual pause. */
  drop() {
    this.socket?.close();
  }

  /** Start again at once. */
  reconnect() {
    this.pause = FIRST_PAUSE_MS;
    if (this.socket) this.socket.close();
    else this.connect();
  }

  /** @param {number} code */
  async closed(code) {
    this.socket = null;
    if (code === UNAUTHORIZED) {
      if (await askForKey()) this.connect();
      else this.changed({ state: "lost" });
      return;
    }
    const wait = this.pause * (0.85 + 0.3 * Math.random());  // pages that lost one service do not return as one
    this.pause = Math.min(2 * this.pause, LONGEST_PAUSE_MS);
    this.changed({ state: "lost", retryAt: Date.now() + wait });
    this.timer = window.setTimeout(() => void this.retry(), wait);
  }

  /** A refused handshake has no reason a page could read; an ordinary request has, and asks for the key. */
  async retry() {
    try {
      await getJson("v1/status");
    } catch (error) {
      if (error instanceof ApiError && error.status === 401) {
        this.changed({ state: "lost" });
        return;
      }
      // unreachable: connecting says so again, with a longer pause
    }
    this.connect();
  }
}
