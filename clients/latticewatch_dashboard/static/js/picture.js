// @ts-check
/** The frame as a picture: grey levels through a table, once a frame, into a canvas of its own size. */

/**
 * Grey levels for display, as little-endian RGBA words.
 * @param {number} black level shown black, 0 to 255
 * @param {number} white level shown white, 0 to 255
 * @param {number} gamma below 1 lifts faint columns
 */
export function greyTable(black, white, gamma) {
  const table = new Uint32Array(256);
  const span = Math.max(1, white - black);
  for (let level = 0; level < 256; level++) {
    const share = Math.min(1, Math.max(0, (level - black) / span));
    const grey = Math.round(255 * share ** gamma);
    table[level] = (255 << 24) | (grey << 16) | (grey << 8) | grey;
  }
  return table;
}

export class Picture {
  constructor() {
    this.canvas = document.createElement("canvas");
    this.context = /** @type {CanvasRenderingContext2D} */ (this.canvas.getContext("2d", { alpha: false }));
    /** @type {Uint8Array | null} */
    this.levels = null;
    /** @type {ImageData | null} */
    this.pixels = null;
    this.table = greyTable(0, 255, 1);
  }

  /** @param {number[]} shape rows, columns @param {Uint8Array} levels */
  show([rows, columns], levels) {
    if (!this.pixels || this.canvas.width !== columns || this.canvas.height !== rows) {
      this.canvas.width = columns;
      this.canvas.height = rows;
      this.pixels = this.context.createImageData(columns, rows);
    }
    this.levels = levels;
    this.paint();
  }

  /** @param {Uint32Array} table */
  setTable(table) {
    this.table = table;
    this.paint();
  }

  paint() {
    if (!this.levels || !this.pixels) return;
    const words = new Uint32Array(this.pixels.data.buffer);
    const { levels, table } = this;
    for (let i = 0; i < levels.length; i++) words[i] = table[levels[i]];
    this.context.putImageData(this.pixels, 0, 0);
  }
}
