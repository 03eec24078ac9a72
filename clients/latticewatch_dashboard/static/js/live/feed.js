/**
 * The live frames. The page asks for one, paints it, and only then asks for the next, so that a slow page shows few
 * frames but never old ones. A hidden page does not ask.
 */

import { unpackLive } from "./message.js";
import { ReturningSocket } from "./socket.js";
/** @import {Connection, LiveHeader, Section, Status, View} from "../types.d.ts" */

const SILENCE_MS = 2000;  // after this long without a message the state is asked for on its own
const SPACE_MS = 1000;
const LOOK_MS = 150;  // a view that moves is followed by a finer picture when it has come to rest

export class LiveFeed {
  /**
   * @param {import("./socket.js").Service} service
   * @param {{received: (message: {header: LiveHeader, arrays: Record<string, Section>, nbytes: number}) => void,
   *          painted: (then: () => void) => void,
   *          status: (status: Status) => void,
   *          changed: (connection: Connection) => void,
   *          view: () => View | null, track: () => number}} handlers
   *   ``painted`` calls back when what was received last is on the screen; ``status`` takes the state when no frames
   *   come; ``view`` is the part of the frame to ask for, ``track`` the one to ask about, or -1
   */
  constructor(service, handlers) {
    this.service = service;
    this.handlers = handlers;
    /** @type {number | null} */
    this.after = null;
    /** Version whose classes and embedding the page has. @type {number | null} */
    this.modelVersion = null;
    /** Whether the page shows the space of the classifier, and the layout whose pool it has. */
    this.wantsSpace = false;
    /** @type {number | null} */
    this.layout = null;
    this.spaceAt = -Infinity;
    this.hidden = false;
    this.owed = false;  // whether a credit is to be given once the page is visible
    this.lastMessage = performance.now();
    this.asked = 0;
    this.got = 0;
    this.nbytes = 0;
    this.socket = new ReturningSocket(service, "v1/live", {
      opened: () => {
        this.after = null;  // ordinals belong to a run of the service
        this.asked = this.got;  // what was asked before will not be answered
        this.modelVersion = null;
        this.layout = null;
        this.spaceAt = -Infinity;
        this.lastMessage = performance.now();
        this.ask({ evenHidden: true });  // a socket that says nothing is closed
      },
      received: (data) => this.received(data),
      changed: handlers.changed,
    });
    setInterval(() => void this.askStatus(), SILENCE_MS / 2);
    /** @type {ReturnType<typeof setTimeout> | undefined} */
    this.looking = undefined;
  }

  connect() {
    this.socket.connect();
  }

  reconnect() {
    this.socket.reconnect();
  }

  /** @param {boolean} hidden */
  setHidden(hidden) {
    this.hidden = hidden;
    if (!hidden && this.owed) this.ask();
  }

  /** The view has changed: ask for what it shows now, also of the frame that is here. */
  look() {
    clearTimeout(this.looking);
    this.looking = setTimeout(() => {
      // While an answer is drawn its credit will ask for the new view anyway.
      if (this.asked === this.got + 1 && this.after !== null) this.ask({ again: true });
    }, LOOK_MS);
  }

  /** Give the credit for one message, unless nobody looks. @param {{evenHidden?: boolean, again?: boolean}} [how] */
  ask({ evenHidden = false, again = false } = {}) {
    this.owed = this.hidden && !evenHidden;
    if (this.owed) return;
    /** @type {Record<string, unknown>} */
    const request = { type: "next" };
    const view = this.handlers.view();
    if (view) request.view = view;
    const track = this.handlers.track();
    if (track >= 0) request.track = track;
    if (this.after !== null) request.after = this.after;
    if (this.modelVersion !== null) request.model_version = this.modelVersion;
    if (this.wantsSpace && performance.now() - this.spaceAt >= SPACE_MS) {
      request.plane = true;
      if (this.layout !== null) request.layout = this.layout;
    }
    if (again) request.again = true;
    else this.asked += 1;  // a request that still waits is replaced by the one that asks again
    this.socket.send(request);
  }

  /** @param {string | ArrayBuffer} data */
  received(data) {
    this.lastMessage = performance.now();
    if (typeof data === "string") return;
    this.got += 1;
    this.nbytes = data.byteLength;
    const { header, arrays } = unpackLive(data);
    this.after = header.ordinal;
    if (header.classes) {
      this.modelVersion = header.status.model_version;
      this.layout = null;  // the pool is of the old classes
      // no frame need come that brings the new one
      if (this.wantsSpace) this.spacing = setTimeout(() => this.look(), SPACE_MS);
    }
    if (header.plane) this.spaceAt = this.lastMessage;
    if (header.plane && arrays.pool) this.layout = header.plane.layout;
    this.handlers.received({ header, arrays, nbytes: data.byteLength });
    this.handlers.painted(() => this.ask());
  }

  /** Without frames there are no messages; the state still changes, and people want to see it. */
  async askStatus() {
    if (this.hidden || !this.socket.isOpen || performance.now() - this.lastMessage < SILENCE_MS) return;
    this.lastMessage = performance.now();
    try {
      this.handlers.status(await this.service.getJson("v1/status"));
    } catch {
      // the socket's own closing says what is wrong
    }
  }
}
