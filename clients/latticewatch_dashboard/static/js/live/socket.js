/** A websocket that comes back: reconnects with growing pauses, and asks for the key when the service wants one. */

/** @import {Connection} from "../types.d.ts" */

const FIRST_PAUSE_MS = 500;
const LONGEST_PAUSE_MS = 10_000;
const UNAUTHORIZED = 4401;
const PATIENCE_MS = 10_000;

/** How the service is reached from here: its address, and the key that the page keeps. */
export class Service {
  /** @param {string} base address of the page @param {() => Promise<string | null>} askForKey */
  constructor(base, askForKey) {
    this.base = base;
    this.ask = askForKey;
    /** @type {string | null} */
    this.key = null;
    /** @type {Promise<boolean> | null} */
    this.asking = null;
  }

  /** Address of a path of the API. @param {string} path */
  url(path) {
    return new URL(path, this.base);
  }

  /** Everybody who needs a key waits for the same answer. @returns {Promise<boolean>} whether one was given */
  askForKey() {
    this.asking ??= this.ask().then((key) => {
      this.asking = null;
      if (key !== null) this.key = key;
      return key !== null;
    });
    return this.asking;
  }

  /** @param {string} path @returns {Promise<any>} nothing where the key was not given */
  async getJson(path) {
    for (;;) {
      const headers = this.key ? { authorization: `Bearer ${this.key}` } : undefined;
      const response = await fetch(this.url(path), { headers, signal: AbortSignal.timeout(PATIENCE_MS) });
      if (response.ok) return response.json();
      if (response.status !== 401 || !(await this.askForKey())) throw new RefusedError(response.status);
    }
  }
}

export class RefusedError extends Error {
  /** @param {number} status */
  constructor(status) {
    super(`the service answered ${status}`);
    this.status = status;
  }
}

export class ReturningSocket {
  /**
   * @param {Service} service
   * @param {string} path
   * @param {{opened: (send: (message: object) => void) => void | Promise<void>,
   *          received: (data: string | ArrayBuffer) => void,
   *          changed?: (connection: Connection) => void}} handlers
   */
  constructor(service, path, { opened, received, changed = () => {} }) {
    this.service = service;
    this.path = path;
    this.opened = opened;
    this.received = received;
    this.changed = changed;
    this.pause = FIRST_PAUSE_MS;
    /** @type {WebSocket | null} */
    this.socket = null;
    this.greeted = false;
    /** @type {ReturnType<typeof setTimeout> | undefined} */
    this.timer = undefined;
  }

  get isOpen() {
    return this.socket?.readyState === WebSocket.OPEN;
  }

  connect() {
    clearTimeout(this.timer);
    if (this.socket) return;
    const url = this.service.url(this.path);
    url.protocol = url.protocol === "https:" ? "wss:" : "ws:";
    const socket = new WebSocket(url);
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
    const key = this.greeted ? null : this.service.key;
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
      if (await this.service.askForKey()) this.connect();
      else this.changed({ state: "lost" });
      return;
    }
    const wait = this.pause * (0.85 + 0.3 * Math.random());  // pages that lost one service do not return as one
    this.pause = Math.min(2 * this.pause, LONGEST_PAUSE_MS);
    this.changed({ state: "lost", retryAt: Date.now() + wait });
    this.timer = setTimeout(() => void this.retry(), wait);
  }

  /** A refused handshake has no reason a page could read; an ordinary request has, and asks for the key. */
  async retry() {
    try {
      await this.service.getJson("v1/status");
    } catch (error) {
      if (error instanceof RefusedError && error.status === 401) {
        this.changed({ state: "lost" });
        return;
      }
      // unreachable: connecting says so again, with a longer pause
    }
    this.connect();
  }
}
