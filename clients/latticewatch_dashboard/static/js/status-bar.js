/** The header and the health line: what the stream is doing, in numbers with units. */

import { byId, say, setText } from "./dom.js";
import { fixed, integer, several, significant } from "./format.js";
import { health as words, state } from "./words.js";
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
    say("stat-frame", status.last_frame === null ? "–" : String(status.last_frame));
    say("stat-fps", fixed(status.fps, 1));
    say("stat-latency", significant(latency.p50));
    byId("stat-latency").title = words.latency(latency.p50, latency.p99);
    say("health-frames", words.frames(frames.received, frames.analysed));
    const dropped = sum(frames.dropped) + sum(frames.rejected);
    byId("stat-dropped").title = words.dropped(listed(frames.dropped), listed(frames.rejected));
    for (const [id, n] of /** @type {[string, number][]} */ ([["stat-dropped", dropped], ["stat-lost", frames.lost_upstream]])) {
      say(id, integer(n));
      byId(id).classList.toggle("warn", n > 0);
      setText(byId(id).nextElementSibling, n === 1 ? "frame" : "frames");
    }
    say("health-sites", several(status.n_sites, "site"));
    say("health-lattice", latticeText(status));
    say("health-model", words.model(status.model_version));
    say("health-series", status.series_id ?? words.noSeries);
    byId("health-series").title = status.series_id ?? "";
    say("health-version", words.version(status.version));
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
    setText(pill, paused ? "paused" : phase === "learning" ? state.learningPhase(gathered, needed) : phase);
    const shown = this.pictureAge;
    say("stat-age", shown === null ? "–" : state.old(shown));
    byId("stat-age").classList.toggle("warn", shown !== null && shown > OLD_S);
    say("health-age", age === null ? words.noFrame : words.lastFrame(age));
    byId("health-age").classList.toggle("warn", age !== null && age > OLD_S);
  }
}

/** @param {Status} status */
function latticeText({ lattice_found: found, lattice_constant_nm: nm, lattice_constant_px: px, pixel_size_nm: size }) {
  if (found === null) return words.notFitted;
  if (!found) return words.noLattice;
  const parts = [];
  if (nm !== null) parts.push(words.constantNm(nm));
  else if (px !== null) parts.push(words.constantPx(px));
  else parts.push(words.lattice);
  if (size !== null) parts.push(words.pixel(size));
  return parts.join(" · ");
}
