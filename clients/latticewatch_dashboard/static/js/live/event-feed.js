/** The event log, pushed: the last few events first, then each new one, without gaps over a reconnection. */

import { ReturningSocket } from "./socket.js";
/** @import {ServiceEvent} from "../types.d.ts" */

const BACKLOG = 60;

export class EventFeed {
  /**
   * @param {import("./socket.js").Service} service
   * @param {{received: (event: ServiceEvent) => void, restarted: () => void}} handlers
   */
  constructor(service, handlers) {
    this.service = service;
    this.handlers = handlers;
    /** Log that the cursor belongs to. @type {string | null} */
    this.stream = null;
    this.cursor = 0;
    this.socket = new ReturningSocket(service, "v1/events/ws", {
      opened: (send) => this.subscribe(send),
      received: (data) => this.received(data),
    });
  }

  connect() {
    this.socket.connect();
  }

  reconnect() {
    this.socket.reconnect();
  }

  /** @param {(message: object) => void} send */
  async subscribe(send) {
    try {
      const { stream, first_seq: first, last_seq: last } = await this.service.getJson("v1/status");
      // Another log, or one that has moved on past what this page has seen: begin near its end.
      if (stream !== this.stream || this.cursor > last || this.cursor < first - 1) {
        if (this.stream !== null) this.handlers.restarted();
        this.stream = stream;
        this.cursor = Math.max(first - 1, last - BACKLOG, 0);
      }
      send({ type: "subscribe", after: this.cursor, stream });
    } catch {
      this.socket.drop();
    }
  }

  /** Take in an event, or the empty page that is the heartbeat. @param {string | ArrayBuffer} data */
  received(data) {
    if (typeof data !== "string") return;
    const message = JSON.parse(data);
    // Anything else says that the cursor is gone; the service closes, and subscribing anew finds the new place.
    if (typeof message.next === "number") this.cursor = message.next;
    if (typeof message.seq !== "number" || message.seq <= this.cursor) return;
    this.cursor = message.seq;
    this.handlers.received(message);
  }
}
