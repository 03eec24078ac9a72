// @ts-check
/** An event in words: what happened, and the facts that belong to it. */

import { fixed, integer } from "./format.js";

/**
 * @typedef {{type: string, stream: string, seq: number, time: string, data: Record<string, any>}} ServiceEvent
 */

/** @param {Record<string, any>} data */
function place({ nm, px }) {
  if (nm) return `${fixed(nm.x, 2)}, ${fixed(nm.y, 2)} nm`;
  return `row ${fixed(px.row, 1)}, column ${fixed(px.col, 1)} px`;
}

/** @param {Record<string, any>} data @returns {string[]} */
const defect = (data) => [
  data.previous_class_name ? `${data.previous_class_name} → ${data.class_name}` : data.class_name,
  `track ${data.track}`,
  `frame ${data.frame}`,
  place(data),
];

/** @param {number} n @param {string} noun @param {string} [plural] */
const several = (n, noun, plural = `${noun}s`) => `${integer(n)} ${n === 1 ? noun : plural}`;

/** @param {(string | false | null | undefined)[]} facts @returns {string[]} */
const known = (...facts) => facts.filter((fact) => typeof fact === "string" && fact !== "").map(String);

/** @type {Record<string, (data: Record<string, any>) => string[]>} */
const FACTS = {
  "defect.appeared": defect,
  "defect.reclassified": defect,
  "defect.moved": defect,
  "defect.disappeared": defect,
  "class.discovered": (d) => known(d.class_name, d.role, d.count != null && several(d.count, "site")),
  "class.merged": (d) => known(d.class_name, `took in ${several(d.merged?.length ?? 0, "class", "classes")}`),
  "class.renamed": (d) => known(d.previous_name ? `${d.previous_name} → ${d.class_name}` : d.class_name),
  "model.updated": (d) => known(`version ${d.model_version}`, several(d.n_classes, "class", "classes"), d.reason),
  "frames.lost": (d) => known(several(d.n, "frame"), `frames ${d.first_frame} to ${d.last_frame}`),
  "series.started": (d) => known(d.series_id, d.frames != null && `${several(d.frames, "frame")} planned`),
  "series.ended": (d) => known(d.series_id, d.frames != null && several(d.frames, "frame"), d.reason),
  "stream.stalled": (d) =>
    known(d.last_frame_age_s != null && `last frame ${fixed(d.last_frame_age_s, 1)} s old`, d.reason),
  "stream.resumed": (d) => known(d.frame != null && `frame ${d.frame}`, d.reason),
};

/**
 * @param {ServiceEvent} event
 * @returns {{title: string, facts: string[]}}
 */
export function describe({ type, data }) {
  return { title: type.replace(".", " "), facts: FACTS[type]?.(data) ?? [] };
}
