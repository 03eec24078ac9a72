/**
 * Picture and marks as words of pixels: without a graphics processor the fastest way there is. Nothing here knows a
 * document; it runs in the worker.
 */

/** @import {Levels, Place, Stamp} from "../types.d.ts" */

const PIXELATED_ABOVE = 6;  // screen pixels to a pixel of the picture

export class Raster {
  constructor() {
    this.width = 0;
    this.height = 0;
    this.ints = new Int32Array();
    /** @type {ImageData | null} */
    this.data = null;
    this.row = new Int32Array();
    this.index = new Int32Array();
    this.weight = new Int32Array();
  }

  /** @param {number} width @param {number} height [device px] */
  resize(width, height) {
    if (this.data && width === this.width && height === this.height) return;
    this.width = width;
    this.height = height;
    this.data = new ImageData(width, height);
    this.ints = new Int32Array(this.data.data.buffer);
    this.index = new Int32Array(width);
    this.weight = new Int32Array(width);
  }

  /** @param {number} word little-endian RGBA */
  clear(word) {
    this.ints.fill(word);
  }

  /**
   * Whether a picture covers all of the screen that the frame covers.
   * @param {Levels} picture @param {Place} place @param {number} rows @param {number} columns of the frame
   */
  covers({ rows: h, columns: w, origin: [top, left], step }, { x0, y0, scale }, rows, columns) {
    const [leftShown, rightShown] = [Math.max(0, -x0 / scale), Math.min(columns, (this.width - x0) / scale)];
    const [topShown, bottomShown] = [Math.max(0, -y0 / scale), Math.min(rows, (this.height - y0) / scale)];
    const slack = step + 0.01;  // what did not fill the last pixel is left out, and is drawn as that pixel
    return left <= leftShown + 1 && top <= topShown + 1
      && left + w * step >= rightShown - slack && top + h * step >= bottomShown - slack;
  }

  /**
   * Draw a picture, bilinear, or in squares where its pixels are large on the screen. Its last row and
   * column reach on to the edge of the frame.
   * @param {Levels} picture @param {Place} place @param {Uint32Array} table colour of each level
   * @param {{rows: number, columns: number}} frame
   */
  picture({ levels, rows, columns, origin, step }, { x0, y0, scale }, table, frame) {
    const { width, height, ints, index, weight } = this;
    const perPixel = scale * step;
    const smooth = perPixel < PIXELATED_ABOVE;
    const left = x0 + origin[1] * scale;
    const top = y0 + origin[0] * scale;
    const from = Math.max(0, Math.ceil(left - 0.5));
    const to = Math.min(width, Math.ceil(Math.min(left + (columns + 1) * perPixel, x0 + frame.columns * scale) - 0.5));
    const first = Math.max(0, Math.ceil(top - 0.5));
    const last = Math.min(height, Math.ceil(Math.min(top + (rows + 1) * perPixel, y0 + frame.rows * scale) - 0.5));
    if (to <= from || last <= first) return;
    const half = smooth ? 0.5 : 0;
    let whole = true;  // one pixel to one of the screen: nothing is mixed
    for (let x = from; x < to; x++) {
      const at = Math.min(Math.max((x + 0.5 - left) / perPixel - half, 0), columns - 1);
      const near = Math.min(Math.floor(at), Math.max(0, columns - 2));
      index[x] = near;
      weight[x] = smooth ? Math.round(256 * (at - near)) : Math.floor(at) > near ? 256 : 0;
      whole &&= weight[x] % 256 === 0;
    }
    if (whole) for (let x = from; x < to; x++) index[x] = Math.min(columns - 1, index[x] + weight[x] / 256);
    if (this.row.length < columns + 1) this.row = new Int32Array(columns + 1);
    const { row } = this;
    const [near, far] = [index[from], Math.min(columns - 1, index[to - 1] + 1)];
    for (let y = first; y < last; y++) {
      const at = Math.min(Math.max((y + 0.5 - top) / perPixel - half, 0), rows - 1);
      const upper = Math.floor(at);
      const down = smooth ? Math.round(256 * (at - upper)) : 0;
      const a = upper * columns;
      const b = Math.min(upper + 1, rows - 1) * columns;
      if (whole) {
        for (let x = from, line = y * width; x < to; x++) ints[line + x] = table[(levels[a + index[x]] * (256 - down) + levels[b + index[x]] * down) >>> 8];
        continue;
      }
      for (let i = near; i <= far; i++) row[i] = levels[a + i] * (256 - down) + levels[b + i] * down;
      row[far + 1] = row[far];
      const line = y * width;
      for (let x = from; x < to; x++) {
        const i = index[x];
        const w = weight[x];
        ints[line + x] = table[(row[i] * (256 - w) + row[i + 1] * w) >>> 16];
      }
    }
  }

  /**
   * Print a stamp with its centre on the nearest whole pixel.
   * @param {Stamp} stamp @param {number} x @param {number} y [device px] @param {number} opacity 0 to 256
   */
  print(stamp, x, y, opacity) {
    const { width, height, ints } = this;
    const { dx, dy, reach } = stamp;
    const cx = Math.round(x);
    const cy = Math.round(y);
    if (cx < -reach || cy < -reach || cx >= width + reach || cy >= height + reach) return;
    if (stamp.width !== width) {
      stamp.width = width;
      stamp.steps = Int32Array.from(dx, (one, i) => dy[i] * width + one);
    }
    const { steps } = stamp;
    const { colour, rest, covering } = inkOf(stamp, opacity);
    const n = steps.length;
    const centre = cy * width + cx;
    if (cx >= reach && cy >= reach && cx < width - reach && cy < height - reach) {
      for (let i = 0; i < covering; i++) ints[centre + steps[i]] = colour[i];
      for (let i = covering; i < n; i++) ints[centre + steps[i]] = over(ints[centre + steps[i]], colour[i], rest[i]);
      return;
    }
    for (let i = 0; i < n; i++) {
      const column = cx + dx[i];
      const row = cy + dy[i];
      if (column < 0 || row < 0 || column >= width || row >= height) continue;
      ints[centre + steps[i]] = over(ints[centre + steps[i]], colour[i], rest[i]);
    }
  }
}

/**
 * Colour over a share of what was there. Red and blue go in one product; sums of parts never carry into the next channel.
 * @param {number} word @param {number} colour @param {number} rest 0 to 256
 */
const over = (word, colour, rest) =>
  colour + ((Math.imul(word & 0xff00ff, rest) >>> 8) & 0xff00ff) + ((Math.imul(word & 0xff00, rest) >>> 8) & 0xff00);

const INKS = 16;  // steps of opacity, of which each stamp keeps its colours

/** Colours of a stamp times their opacity, and the share of what is beneath, 0 to 256. @param {Stamp} stamp @param {number} opacity 0 to 256 */
function inkOf(stamp, opacity) {
  const step = Math.round((opacity * INKS) / 256);
  const { alpha, red, green, blue } = stamp;
  return (stamp.inks[step] ??= (() => {
    const share = Array.from(alpha, (one) => Math.round((256 * one * step) / (255 * INKS)));
    const part = (channel, i) => (channel[i] * share[i]) >> 8;
    const first = share.findIndex((one) => one < 256);
    return {
      covering: first < 0 ? share.length : first,
      rest: Int32Array.from(share, (one) => 256 - one),
      colour: Int32Array.from(share, (_, i) => 0xff000000 | (part(blue, i) << 16) | (part(green, i) << 8) | part(red, i)),
    };
  })());
}

/**
 * @param {number} reach from the centre to the edge [device px]
 * @param {(pen: OffscreenCanvasRenderingContext2D) => void} paint around 0, 0
 * @returns {Stamp}
 */
export function stampOf(reach, paint) {
  const half = Math.ceil(reach);
  const side = 2 * half + 1;
  const canvas = new OffscreenCanvas(side, side);
  const pen = /** @type {OffscreenCanvasRenderingContext2D} */ (canvas.getContext("2d", { willReadFrequently: true }));
  pen.translate(half + 0.5, half + 0.5);
  paint(pen);
  const { data } = pen.getImageData(0, 0, side, side);
  const seen = [];
  for (let i = 0; i < side * side; i++) if (data[4 * i + 3] > 6) seen.push(i);
  seen.sort((a, b) => Number(data[4 * b + 3] === 255) - Number(data[4 * a + 3] === 255));
  const pick = (channel) => Uint8Array.from(seen, (i) => data[4 * i + channel]);
  return {
    dx: Int16Array.from(seen, (i) => (i % side) - half),
    dy: Int16Array.from(seen, (i) => Math.floor(i / side) - half),
    red: pick(0),
    green: pick(1),
    blue: pick(2),
    alpha: pick(3),
    reach: half,
    width: 0,
    steps: new Int32Array(),
    inks: [],
  };
}

/** Colour maps as control points, dark to bright; the perceptual ones after matplotlib (CC0) at sixteenths. */
const MAPS = {
  grey: ["#000000", "#ffffff"],
  viridis: ["#440154", "#481a6c", "#472f7d", "#414487", "#39568c", "#31688e", "#2a788e", "#23888e", "#1f988b", "#22a884", "#35b779", "#54c568", "#7ad151", "#a5db36", "#d2e21b", "#fde725"],
  inferno: ["#000004", "#0c0826", "#240c4f", "#420a68", "#5d126e", "#781c6d", "#932667", "#ae305c", "#c73e4c", "#dd513a", "#ed6925", "#f8850f", "#fca50a", "#fac62d", "#f2e661", "#fcffa4"],
  cividis: ["#00224e", "#002d6c", "#16396d", "#2f456b", "#42516b", "#535d6d", "#636a70", "#737675", "#848379", "#958f78", "#a69d75", "#b8ab70", "#caba6a", "#dcc960", "#eed951", "#fee838"],
};
export const MAP_NAMES = Object.keys(MAPS);

/**
 * Colours for display, as little-endian RGBA words.
 * @param {{black: number, white: number, gamma: number, map: string}} contrast levels 0 to 255; gamma below 1 lifts
 *   faint columns
 */
export function colourTable({ black, white, gamma, map }) {
  const points = (MAPS[/** @type {keyof typeof MAPS} */ (map)] ?? MAPS.grey).map((colour) => channels(colour));
  const table = new Uint32Array(256);
  const span = Math.max(1, white - black);
  for (let level = 0; level < 256; level++) {
    const share = Math.min(1, Math.max(0, (level - black) / span)) ** gamma * (points.length - 1);
    const i = Math.min(points.length - 2, Math.floor(share));
    const [r, g, b] = points[i].map((value, k) => Math.round(value + (share - i) * (points[i + 1][k] - value)));
    table[level] = ((255 << 24) | (b << 16) | (g << 8) | r) >>> 0;
  }
  return table;
}

/** @param {string} colour ``#rrggbb`` */
export const channels = (colour) => [1, 3, 5].map((i) => parseInt(colour.slice(i, i + 2), 16));
