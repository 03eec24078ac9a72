/** The binary live message: u32 header length (little endian), JSON header, payload of aligned sections. */

/** @import {LiveHeader, Section} from "../types.d.ts" */

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
