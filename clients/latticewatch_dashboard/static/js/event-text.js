/** An event in words: what happened, and the facts that belong to it. */

import { several } from "./format.js";
import { events as words, frame, place as places } from "./words.js";
/** @import {ServiceEvent} from "./types.d.ts" */

/** @param {Record<string, any>} data */
function place({ nm, px }) {
  if (nm) return places.nm(nm.x, nm.y);
  return places.px(px.row, px.col);
}

/** @param {Record<string, any>} data @returns {string[]} */
const defect = (data) => [
  data.previous_class_name ? `${data.previous_class_name} → ${data.class_name}` : data.class_name,
  data.displacement_nm ? words.shifted(1000 * Math.hypot(data.displacement_nm.x, data.displacement_nm.y)) : "",
  words.track(data.track),
  frame.caption(data.frame),
  place(data),
].filter(Boolean);

/** @param {(string | false | null | undefined)[]} facts @returns {string[]} */
const known = (...facts) => facts.filter((fact) => typeof fact === "string" && fact !== "").map(String);

/** @type {Record<string, (data: Record<string, any>) => string[]>} */
const FACTS = {
  "defect.appeared": defect,
  "defect.reclassified": defect,
  "defect.moved": defect,
  "defect.disappeared": defect,
  "class.discovered": (d) => known(d.class_name, d.role, d.count != null && several(d.count, "site")),
  "class.split": (d) => known(d.class_name, words.splitFrom(d.split_from)),
  "class.merged": (d) => known(d.class_name, words.tookIn(d.merged?.length ?? 0)),
  "class.renamed": (d) => known(d.previous_name ? `${d.previous_name} → ${d.class_name}` : d.class_name),
  "model.updated": (d) => known(words.version(d.model_version), several(d.n_classes, "class", "classes"), d.reason),
  "frames.lost": (d) => known(several(d.n, "frame"), words.frames(d.first_frame, d.last_frame)),
  "series.started": (d) => known(d.series_id, d.frames != null && words.planned(d.frames)),
  "series.ended": (d) => known(d.series_id, d.frames != null && several(d.frames, "frame"), d.reason),
  "stream.stalled": (d) =>
    known(d.last_frame_age_s != null && words.lastFrame(d.last_frame_age_s), d.reason),
  "stream.resumed": (d) => known(d.frame != null && frame.caption(d.frame), d.reason),
};

/**
 * How a defect came to be told: something that was born, or something that was there when it was first seen.
 * @typedef {"appeared" | "found" | "entered"} Coming
 */

/**
 * @param {ServiceEvent} event
 * @param {Coming} [coming] of a ``defect.appeared``
 * @returns {{title: string, facts: string[]}}
 */
export function describe({ type, data }, coming = "appeared") {
  const title = type === "defect.appeared" ? words[coming] : type.replace(".", " ");
  return { title, facts: FACTS[type]?.(data) ?? [] };
}

const EDGE_CONSTANTS = 2.5;  // nearer to the edge than so many lattice constants, and with drift: it came into view

/** Tells births from what was there before; it has to see the events in their order. */
export class Comings {
  constructor() {
    this.series = "";
    /** First frame in which a defect could be told. */
    this.first = -1;
    this.latticeNm = 0.3;
  }

  /** @param {ServiceEvent} event @returns {Coming} */
  of({ type, data }) {
    if (type === "series.started") {
      this.series = data.series_id;
      this.first = data.frame ?? -1;
    } else if (type === "model.updated" && /learnt|asked|anew|adopted/.test(data.reason ?? "")) {
      this.first = data.frame ?? this.first;
    }
    if (type !== "defect.appeared") return "appeared";
    if (this.first < 0 || data.series_id !== this.series) {
      // the first that this page hears of: whatever comes with the same frame was there
      this.series = data.series_id;
      this.first = data.frame;
    }
    if (data.found === true || data.frame - (data.latency_frames ?? 0) <= this.first + 1) return "found";
    const moved = data.drift_nm && Math.hypot(data.drift_nm.x, data.drift_nm.y) > 0.2 * this.latticeNm;
    return moved && data.edge_distance_nm != null && data.edge_distance_nm < EDGE_CONSTANTS * this.latticeNm ? "entered" : "appeared";
  }
}
