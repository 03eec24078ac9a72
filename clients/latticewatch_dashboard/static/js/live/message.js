// @ts-check
/** The binary live message: u32 header length (little endian), JSON header, payload of aligned sections. */

/**
 * @typedef {{name: string, role: string, class_id: number, n: number}} ClassCount
 * @typedef {{class_id: number, name: string, role: string, sublattice: number, host_class: number | null,
 *   count: number, total: number, separation: number | null, colour: string, shape: string,
 *   template: string | null, score: number | null, runner_up: [string, number] | null}} ClassSummary
 * @typedef {{version: string, stream: string, source: string, series_id: string | null, phase: string, detail: string | null,
 *   learning: [number, number], lattice_found: boolean | null,
 *   frames: {received: number, analysed: number, dropped: Record<string, number>, in_flight: number,
 *            lost_upstream: number, rejected: Record<string, number>},
 *   fps: number | null, latency_ms: {p50: number | null, p99: number | null},
 *   last_frame: number | null, last_frame_age_s: number | null, model_version: number, n_sites: number | null,
 *   pixel_size_nm: number | null, lattice_constant_nm: number | null, lattice_constant_px: number | null,
 *   first_seq: number, last_seq: number, sources?: string[],
 *   notes?: {code: string, text: string, remedy: string, since_frame: number | null}[]}} Status
 * @typedef {{sublattice: number, variances: number[], edge: number | null, n_components: number, rows: number}} Sublattice
 * @typedef {{frame: number | null, layout: number | null, sublattices: Sublattice[]}} SpaceNow
 * @typedef {{ordinal: number, series_id: string | null, frame: number | null, shape: [number, number] | null,
 *   image_scale: number, image_origin?: [number, number], overview_scale?: number | null, hosts_left_out?: number,
 *   pixel_size_nm: number | null, t_received: number | null, age_s: number | null,
 *   drift_nm: [number, number] | null, status: Status,
 *   counts: {frame: number | null, by_role: Record<string, number>, by_class: ClassCount[]},
 *   classes: ClassSummary[] | null, plane?: SpaceNow | null,
 *   sections: {name: string, dtype: string, shape: number[], offset: number, nbytes: number}[]}} LiveHeader
 * @typedef {{shape: number[], data: Uint8Array | Int16Array | Int32Array | Float32Array}} Section
 */

const VIEWS = { uint8: Uint8Array, int16: Int16Array, int32: Int32Array, float32: Float32Array };

/**
 * Header and arrays of one message; the arrays are views of it.
 * @param {ArrayBuffer} buffer
 * @returns {{header: LiveHeader, arrays: Record<string, Section>}}
 */
export function unpackLive(buffer) {
  const length = new DataView(buffer).getUint32(0, true);
  const start = 4 + length;
  if (start > buffer.byteLength) {
    throw new RangeError(`live message: header of ${length} bytes in a message of ${buffer.byteLength}`);
  }
  const header = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 4, length)));
  /** @type {Record<string, Section>} */
  const arrays = {};
  for (const { name, dtype, shape, offset, nbytes } of header.sections) {
    const View = VIEWS[/** @type {keyof typeof VIEWS} */ (dtype)];
    if (!View) continue;  // a newer service may send more than this page knows
    arrays[name] = { shape, data: new View(buffer, start + offset, nbytes / View.BYTES_PER_ELEMENT) };
  }
  return { header, arrays };
}
