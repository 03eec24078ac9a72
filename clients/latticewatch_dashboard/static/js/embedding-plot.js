// @ts-check
/** The force-relaxed layout of the sites that were learnt from, coloured by class. */

import { clearedCanvas } from "./dom.js";

const PADDING = 14;
const NEUTRAL = "#6d7889";

export class EmbeddingPlot {
  /** @param {HTMLCanvasElement} canvas */
  constructor(canvas) {
    this.canvas = canvas;
    this.points = new Float32Array();
    this.classId = new Int16Array();
    /** @type {Map<number, {colour: string, role: string}>} */
    this.looks = new Map();
    /** @type {number | null} */
    this.emphasis = null;
    new ResizeObserver(() => this.draw()).observe(canvas);
  }

  /** @param {Float32Array} points x, y one after the other @param {Int16Array} classId */
  setPoints(points, classId) {
    this.points = points.slice();  // a view would keep the whole message alive
    this.classId = classId.slice();
  }

  get length() {
    return this.classId.length;
  }

  draw() {
    const { context, width, height } = clearedCanvas(this.canvas);
    const count = this.length;
    if (!count || width < 40) return;
    const [left, right] = bounds(this.points, 0);
    const [low, high] = bounds(this.points, 1);
    const scale = Math.min((width - 2 * PADDING) / (right - left || 1), (height - 2 * PADDING) / (high - low || 1));
    const x0 = width / 2 - (scale * (left + right)) / 2;
    const y0 = height / 2 + (scale * (low + high)) / 2;
    const size = count > 3000 ? 2 : count > 800 ? 2.6 : 3.6;
    // Hosts first: the few defects must not be buried under thousands of them.
    const order = [...new Set(this.classId)].sort((a, b) => this.depth(a) - this.depth(b));
    for (const id of order) {
      const look = this.looks.get(id);
      const quiet = this.emphasis !== null ? this.emphasis !== id : look?.role === "host";
      context.fillStyle = look?.colour ?? NEUTRAL;
      context.globalAlpha = quiet ? 0.38 : 0.95;
      const side = quiet ? size : size + 0.8;
      for (let i = 0; i < count; i++) {
        if (this.classId[i] !== id) continue;
        const x = x0 + scale * this.points[2 * i];
        const y = y0 - scale * this.points[2 * i + 1];
        context.fillRect(x - side / 2, y - side / 2, side, side);
      }
    }
    context.globalAlpha = 1;
  }

  /** @param {number} id */
  depth(id) {
    if (id === this.emphasis) return 9;
    return { host: 0, neighbour: 2, defect: 3 }[this.looks.get(id)?.role ?? ""] ?? 1;
  }
}

/** Range of one coordinate without its farthest outliers. @param {Float32Array} points @param {0 | 1} axis @returns {[number, number]} */
function bounds(points, axis) {
  const values = new Float32Array(points.length / 2);
  for (let i = 0; i < values.length; i++) values[i] = points[2 * i + axis];
  values.sort();
  const trim = Math.floor(values.length * 0.002);
  return [values[trim], values[values.length - 1 - trim]];
}
