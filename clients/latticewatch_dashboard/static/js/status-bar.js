// @ts-check
/** The header and the health line: what the stream is doing, in numbers with units. */

import { byId, setText } from "./dom.js";
import { age as aged, fixed, integer, several, significant } from "./format.js";
/** @import {Status} from "./types.d.ts" */

const OLD_S = 3;

/** @param {Record<string, number>} reasons */
const sum = (reasons) => Object.values(reasons).reduce((total, n) => total + n, 0);

/** @param {Record<string, number>} reasons */
function listed(reasons) {
  const parts = Object.entries(reasons).filter(([, n]) => n > 0).map(([reason, n]) => `${reason} ${integer(n)}`);
  return parts.length ? parts.join(", ") : "none";
}

export class StatusBar {
  constructor() {
    /** @type {Status | null} */
    this.status = null;
    this.receivedAt = 0;
    this.connected = false;
    /** Age of the picture on the screen when it was told, and when that was. @type {[number, number] | null} */
    this.picture = null;
    this.paused = false;
  }

  /** @param {number} age of the picture on the screen [s] @param {boolean} paused */
  setPicture(age, paused) {
    this.picture = [age, performance.now()];
    this.paused = paused;
    this.tick();
  }

  /** Age of the picture on the screen now [s]. */
  get pictureAge() {
    return this.picture && this.picture[0] + (performance.now() - this.picture[1]) / 1000;
  }

  /** @param {Status} status */
  update(status) {
    this.status = status;
    this.receivedAt = performance.now();
    const { frames, latency_ms: latency } = status;
    setText(byId("stat-frame"), status.last_frame === null ? "–" : String(status.last_frame));
    setText(byId("stat-fps"), fixed(status.fps, 1));
    setText(byId("stat-latency"), significant(latency.p50));
    byId("stat-latency").title = `Frame received to events readable: median ${significant(latency.p50)} ms, 99 of 100 within ${significant(latency.p99)} ms`;
    setText(byId("health-frames"), `${several(frames.received, "frame")} received, ${integer(frames.analysed)} analysed`);
    const dropped = sum(frames.dropped) + sum(frames.rejected);
    byId("stat-dropped").title = `Dropped: ${listed(frames.dropped)}. Unreadable: ${listed(frames.rejected)}.`;
    for (const [id, n] of /** @type {[string, number][]} */ ([["stat-dropped", dropped], ["stat-lost", frames.lost_upstream]])) {
      setText(byId(id), integer(n));
      byId(id).classList.toggle("warn", n > 0);
      setText(byId(id).nextElementSibling, n === 1 ? "frame" : "frames");
    }
    setText(byId("health-sites"), several(status.n_sites, "site"));
    setText(byId("health-lattice"), latticeText(status));
    setText(byId("health-model"), `model version ${status.model_version}`);
    setText(byId("health-series"), status.series_id ?? "none open");
    byId("health-series").title = status.series_id ?? "";
    setText(byId("health-version"), `Latticewatch ${status.version}`);
    this.tick();
  }

  /** @param {boolean} connected */
  setConnected(connected) {
    this.connected = connected;
    this.tick();
  }

  /** Age of the last frame now [s]. */
  get age() {
    if (this.status?.last_frame_age_s == null) return null;
    return this.status.last_frame_age_s + (performance.now() - this.receivedAt) / 1000;
  }

  /** What goes on without messages: the age, and the phase where the connection decides it. */
  tick() {
    const { status, age } = this;
    const pill = byId("phase");
    const phase = !this.connected ? "offline" : (status?.phase ?? "connecting");
    pill.dataset.phase = phase;
    const [gathered, needed] = status?.learning ?? [0, 0];
    const paused = this.paused && phase !== "offline";
    if (paused) pill.dataset.phase = "paused";
    setText(pill, paused ? "paused" : phase === "learning" ? `learning ${gathered} of ${needed} frames` : phase);
    const shown = this.pictureAge;
    setText(byId("stat-age"), shown === null ? "–" : `${aged(shown)} old`);
    byId("stat-age").classList.toggle("warn", shown !== null && shown > OLD_S);
    setText(byId("health-age"), age === null ? "no frame yet" : `last frame ${aged(age)} ago`);
    byId("health-age").classList.toggle("warn", age !== null && age > OLD_S);
  }
}

/** @param {Status} status */
function latticeText({ lattice_found: found, lattice_constant_nm: nm, lattice_constant_px: px, pixel_size_nm: size }) {
  if (found === null) return "lattice not fitted yet";
  if (!found) return "no lattice found";
  const parts = [];
  if (nm !== null) parts.push(`lattice constant ${significant(nm)} nm`);
  else if (px !== null) parts.push(`lattice constant ${significant(px)} px`);
  else parts.push("lattice found");
  if (size !== null) parts.push(`${size.toPrecision(3)} nm/px`);
  return parts.join(" · ");
}
