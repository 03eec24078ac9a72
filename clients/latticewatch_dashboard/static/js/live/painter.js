/** One frame on the canvas: the picture, the marks, and what is drawn with a pen on top of them. */

import { drawNames, drawSelection, drawTrail, FONT, Marks, markRadius, outline } from "./marks.js";
import { drawRegions } from "./regions.js";
import { colourTable, Raster } from "./raster.js";
import { Viewport } from "./viewport.js";
/** @import {ClassSummary, Frame, Levels, Shown, Style} from "../types.d.ts" */

const GROUND = 0xff090604;  // around the frame, as little-endian RGBA
const GREY = colourTable({ black: 0, white: 255, gamma: 1, map: "grey" });

export class Painter {
  /** @param {OffscreenCanvas} canvas */
  constructor(canvas) {
    this.canvas = canvas;
    // On the processor from the start: what is written pixel by pixel need not come back from a graphics card.
    this.context = /** @type {OffscreenCanvasRenderingContext2D} */ (
      canvas.getContext("2d", { alpha: false, willReadFrequently: true })
    );
    this.view = new Viewport();
    this.ratio = 1;
    this.raster = new Raster();
    this.marks = new Marks();
    this.table = GREY;
    this.lastMs = 0;
    /** @type {Frame | null} */
    this.shown = null;
    /** @type {Style} */
    this.style = {
      looks: new Map(), shown: { defect: true, neighbour: true, host: false, unknown: true, regions: true },
      spacing: 20, emphasis: null, hidden: new Set(), learnt: false, ratio: 1, rem: 14,
    };
  }

  /** @param {{shown: Shown, emphasis: number | null, hidden: number[], rem: number}} style */
  setStyle({ shown, emphasis, hidden, rem }) {
    Object.assign(this.style, { shown, emphasis, rem, hidden: new Set(hidden) });
  }

  /** @param {ClassSummary[]} classes */
  setLooks(classes) {
    this.style.looks = new Map(classes.map((one) => [one.class_id, one]));
    this.style.learnt = classes.length > 0;
  }

  /** @param {{black: number, white: number, gamma: number, map: string}} contrast */
  setContrast(contrast) {
    this.table = colourTable(contrast);
  }

  /** @param {Frame} frame */
  levels(frame) {
    const { header, arrays } = frame;
    const [rows, columns] = arrays.image.shape;
    return {
      levels: /** @type {Uint8Array} */ (arrays.image.data), rows, columns,
      origin: header.image_origin ?? [0, 0], step: header.image_scale,
    };
  }

  /** The whole frame in small, where only a part of it came. @param {Frame} frame @returns {Levels | null} */
  overview({ header, arrays: { overview } }) {
    if (!overview) return null;
    const [rows, columns] = overview.shape;
    return { levels: /** @type {Uint8Array} */ (overview.data), rows, columns, origin: [0, 0], step: header.overview_scale ?? 1 };
  }

  /**
   * @param {Frame} frame
   * @param {{track: number, trails: {track: number, points: [number, number][]}[]}} extra
   */
  paint(frame, { track, trails }) {
    const began = performance.now();
    this.shown = frame;
    const { view, ratio, raster, context, style } = this;
    const width = Math.max(1, Math.round(view.width * ratio));
    const height = Math.max(1, Math.round(view.height * ratio));
    if (this.canvas.width !== width || this.canvas.height !== height) {
      this.canvas.width = width;
      this.canvas.height = height;
    }
    raster.resize(width, height);
    style.ratio = ratio;
    const { header, arrays, sites } = frame;
    style.spacing = header.status.lattice_constant_px ?? Math.max(view.rows, view.columns) / 40;
    const place = { x0: view.x0 * ratio, y0: view.y0 * ratio, scale: view.scale * ratio };
    const picture = this.levels(frame);
    const whole = place.x0 <= 0 && place.y0 <= 0
      && place.x0 + view.columns * place.scale >= width && place.y0 + view.rows * place.scale >= height;
    const covered = raster.covers(picture, place, view.rows, view.columns);
    if (!whole || !covered) raster.clear(GROUND);
    const small = covered ? null : this.overview(frame);
    if (small) raster.picture(small, place, this.table, view);
    raster.picture(picture, place, this.table, view);
    this.marks.draw(raster, view, sites, style);
    context.putImageData(/** @type {ImageData} */ (raster.data), 0, 0);

    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    if (style.shown.regions) drawRegions(context, view, frame);
    for (const trail of trails) {
      const i = sites.ofTrack(trail.track);
      const colour = style.looks.get(i >= 0 ? sites.classId[i] : -1)?.colour ?? "#ffffff";
      drawTrail(context, trail.points.map(([row, column]) => view.toScreen(row, column)), colour);
    }
    drawNames(context, view, sites, style);
    const selected = sites.ofTrack(track);
    if (selected >= 0) {
      const [x, y] = view.toScreen(sites.row(selected), sites.column(selected));
      drawSelection(context, x, y, markRadius(style.spacing, view.scale));
    }
    context.setTransform(1, 0, 0, 1, 0, 0);
    this.lastMs = performance.now() - began;
  }

  /** Level of the picture at a place of the frame, 0 to 255, or null outside of what is here. @param {number} row @param {number} column */
  levelAt(row, column) {
    if (!this.shown) return null;
    for (const picture of [this.levels(this.shown), this.overview(this.shown)]) {
      if (!picture) continue;
      const { levels, rows, columns, origin, step } = picture;
      const r = Math.floor((row + 0.5 - origin[0]) / step);
      const c = Math.floor((column + 0.5 - origin[1]) / step);
      if (r >= 0 && c >= 0 && r < rows && c < columns) return levels[r * columns + c];
    }
    return null;
  }

  /**
   * A square of the picture around a place, in the colours of now, or in grey from its own darkest to its brightest.
   * @param {Frame} frame @param {number} row @param {number} column @param {number} size [frame px] @param {boolean} [stretched]
   * @returns {{width: number, pixels: Uint8ClampedArray} | null}
   */
  cut(frame, row, column, size, stretched = false) {
    const { levels, rows, columns, origin, step } = this.levels(frame);
    const width = 64;
    const found = new Float32Array(width * width).fill(NaN);
    let [low, high] = stretched ? [255, 0] : [0, 255];
    let seen = false;
    for (let y = 0; y < width; y++) {
      const at = (row + 0.5 + ((y + 0.5) / width - 0.5) * size - origin[0]) / step - 0.5;
      const r = Math.floor(at);
      for (let x = 0; x < width; x++) {
        const across = (column + 0.5 + ((x + 0.5) / width - 0.5) * size - origin[1]) / step - 0.5;
        const c = Math.floor(across);
        if (r < 0 || c < 0 || r + 1 >= rows || c + 1 >= columns) continue;
        seen = true;
        const i = r * columns + c;
        const [v, h] = [at - r, across - c];
        const level = (levels[i] * (1 - h) + levels[i + 1] * h) * (1 - v) + (levels[i + columns] * (1 - h) + levels[i + columns + 1] * h) * v;
        found[y * width + x] = level;
        low = Math.min(low, level);
        high = Math.max(high, level);
      }
    }
    const table = stretched ? GREY : this.table;
    const scale = 255 / Math.max(1, high - low);
    const pixels = Uint32Array.from(found, (level) => (Number.isNaN(level) ? GROUND : table[Math.round((level - low) * scale)]));
    return seen ? { width, pixels: new Uint8ClampedArray(pixels.buffer) } : null;
  }

  /**
   * What is on the screen as a PNG, with its scale bar and a line of text for each thing in it.
   * @param {{bar: {length: number, text: string}, title: string, lines: {colour: string, shape: string, text: string}[]}} legend lengths in CSS px
   */
  async export({ bar, title, lines }) {
    const { ratio } = this;
    const row = 20;
    const columns = Math.max(1, Math.floor(this.canvas.width / ratio / 250));
    const footer = Math.ceil((row * (2 + Math.ceil(lines.length / columns)) + 10) * ratio);
    const out = new OffscreenCanvas(this.canvas.width, this.canvas.height + footer);
    const pen = /** @type {OffscreenCanvasRenderingContext2D} */ (out.getContext("2d"));
    pen.fillStyle = "#0c1118";
    pen.fillRect(0, 0, out.width, out.height);
    pen.drawImage(this.canvas, 0, 0);
    pen.setTransform(ratio, 0, 0, ratio, 0, 0);
    const [width, height] = [this.canvas.width / ratio, this.canvas.height / ratio];
    pen.font = `600 13px ${FONT}`;
    pen.fillStyle = "#05080dc4";
    pen.fillRect(12, height - 50, Math.max(bar.length, 40) + 20, 38);
    pen.fillStyle = "#ffffff";
    pen.fillRect(22, height - 42, bar.length, 4);
    pen.textAlign = "center";
    pen.fillText(bar.text, 22 + bar.length / 2, height - 20);
    pen.textAlign = "left";
    pen.fillText(title, 12, height + row);
    lines.forEach(({ colour, shape, text }, i) => {
      const x = 12 + (i % columns) * ((width - 24) / columns);
      const y = height + row * (2 + Math.floor(i / columns));
      const points = outline(shape);
      pen.beginPath();
      if (points) points.forEach(([dx, dy]) => pen.lineTo(x + 6 + 4.5 * dx, y - 4 + 4.5 * dy));
      else pen.arc(x + 6, y - 4, 4.5, 0, 2 * Math.PI);
      pen.closePath();
      pen.strokeStyle = colour;
      pen.lineWidth = 1.8;
      pen.stroke();
      pen.fillStyle = "#e4eaf2";
      pen.fillText(text, x + 18, y, (width - 24) / columns - 26);
    });
    return out.convertToBlob({ type: "image/png" });
  }
}
