/** The force-relaxed layout of a pool of sites, and the newest frame's among them, coloured by class. */

import { clearedCanvas } from "./dom.js";
import { readable } from "./timeline.js";

const PADDING = 14;
const CLICK_PX = 4;
const PICK_PX = 9;
const NEUTRAL = "#6d7889";
const MOST_CORNERS = 500;  // of a line that is sent; a hand draws no more

export class EmbeddingPlot {
  /**
   * @param {HTMLCanvasElement} canvas
   * @param {{lassoed: (classes: Map<number, number>) => void, picked: (classId: number, track: number) => void}} handlers
   *   points of each class within a line that was drawn; a point that was clicked on, its track where it is of the newest frame
   */
  constructor(canvas, handlers) {
    this.canvas = canvas;
    /** @type {[number, number][]} corners of the line that is drawn, in the plane */
    this.loop = [];
    /** @type {number | null} layout that the points are of, where it is the live one, and that of the line */
    this.layout = null;
    /** @type {number | null} */
    this.drawnIn = null;
    this.place = { x0: 0, y0: 0, scale: 1 };
    /** @type {Float32Array} */
    this.points = new Float32Array();
    /** @type {Int16Array} */
    this.classId = new Int16Array();
    /** @type {Float32Array} */
    this.sites = new Float32Array();
    /** @type {Int16Array} */
    this.siteClass = new Int16Array();
    /** @type {Int32Array | null} */
    this.tracks = null;
    this.track = -1;  // the site that is chosen
    /** @type {Map<number, {colour: string, role: string}>} */
    this.looks = new Map();
    /** @type {number | null} */
    this.emphasis = null;
    new ResizeObserver(() => this.draw()).observe(canvas);
    this.attachLasso(handlers);
  }

  /** @param {Float32Array} points x, y one after the other @param {Int16Array} classId */
  setPoints(points, classId) {
    this.points = points.slice();  // a view would keep the whole message alive
    this.classId = classId.slice();
  }

  /** Sites of the newest frame among the points. @param {Float32Array} points @param {Int16Array} classId @param {Int32Array | null} tracks */
  setSites(points, classId, tracks) {
    this.sites = points;
    this.siteClass = classId;
    this.tracks = tracks;
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
    this.place = { x0, y0, scale };
    const size = count > 3000 ? 2 : count > 800 ? 2.6 : 3.6;
    // Hosts first: the few defects must not be buried under thousands of them.
    const order = [...new Set(this.classId)].sort((a, b) => this.depth(a) - this.depth(b));
    for (const id of order) {
      const look = this.looks.get(id);
      const quiet = this.emphasis !== null ? this.emphasis !== id : look?.role === "host";
      context.fillStyle = readable(look?.colour ?? NEUTRAL);
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
    // the newest frame: small and clear, over the pool that they lie in
    for (let i = 0; i < this.siteClass.length; i++) {
      const look = this.looks.get(this.siteClass[i]);
      if (look?.role === "host" || (this.emphasis !== null && this.emphasis !== this.siteClass[i])) continue;
      const x = x0 + scale * this.sites[2 * i];
      const y = y0 - scale * this.sites[2 * i + 1];
      context.strokeStyle = readable(look?.colour ?? "#ffffff");
      context.lineWidth = 1;
      context.strokeRect(x - 2.5, y - 2.5, 5, 5);
    }
    const chosen = this.track < 0 ? -1 : (this.tracks?.indexOf(this.track) ?? -1);
    if (chosen >= 0) {
      context.strokeStyle = getComputedStyle(document.documentElement).getPropertyValue("--text");
      context.lineWidth = 1.5;
      context.strokeRect(x0 + scale * this.sites[2 * chosen] - 6, y0 - scale * this.sites[2 * chosen + 1] - 6, 12, 12);
    }
    if (this.loop.length > 1) {
      context.beginPath();
      this.loop.forEach(([x, y], i) => (i ? context.lineTo(x0 + scale * x, y0 - scale * y) : context.moveTo(x0 + scale * x, y0 - scale * y)));
      context.closePath();
      context.strokeStyle = getComputedStyle(document.documentElement).getPropertyValue("--accent");
      context.lineWidth = 1.5;
      context.setLineDash([5, 4]);
      context.stroke();
      context.setLineDash([]);
    }
  }

  /** @param {{lassoed: (classes: Map<number, number>) => void, picked: (classId: number, track: number) => void}} handlers */
  attachLasso({ lassoed, picked }) {
    const { canvas } = this;
    const place = (event) => {
      const box = canvas.getBoundingClientRect();
      return /** @type {[number, number]} */ ([event.clientX - box.left, event.clientY - box.top]);
    };
    const corner = ([x, y]) => /** @type {[number, number]} */ ([(x - this.place.x0) / this.place.scale, (this.place.y0 - y) / this.place.scale]);
    let drawing = false;
    let click = true;
    let [left, top] = [0, 0];
    canvas.addEventListener("pointerdown", (event) => {
      canvas.setPointerCapture(event.pointerId);
      drawing = click = true;
      [left, top] = place(event);
      this.loop = [corner([left, top])];
      this.drawnIn = this.layout;
    });
    canvas.addEventListener("pointermove", (event) => {
      if (!drawing) return;
      const [x, y] = place(event);
      click &&= Math.hypot(x - left, y - top) < CLICK_PX;
      this.loop.push(corner([x, y]));
      this.draw();
    });
    for (const ending of /** @type {const} */ (["pointerup", "pointercancel"])) {
      canvas.addEventListener(ending, () => {
        if (!drawing) return;
        drawing = false;
        if (click) this.loop = [];
        lassoed(this.within());
        if (click) this.pick(left, top, picked);
        this.draw();
      });
    }
  }

  /** The point nearest to a place, those of the newest frame before the others. @param {number} x @param {number} y @param {(classId: number, track: number) => void} picked */
  pick(x, y, picked) {
    const { x0, y0, scale } = this.place;
    for (const [points, classId, tracks] of /** @type {const} */ ([[this.sites, this.siteClass, this.tracks], [this.points, this.classId, null]])) {
      let [best, least] = [-1, PICK_PX];
      for (let i = 0; i < classId.length; i++) {
        const distance = Math.hypot(x0 + scale * points[2 * i] - x, y0 - scale * points[2 * i + 1] - y);
        if (distance < least) [best, least] = [i, distance];
      }
      if (best >= 0) {
        picked(classId[best], tracks?.[best] ?? -1);
        return;
      }
    }
  }

  /** Points of each class within the line. */
  within() {
    /** @type {Map<number, number>} */
    const found = new Map();
    if (this.loop.length < 4) return found;
    for (let i = 0; i < this.length; i++) {
      if (!inside(this.loop, this.points[2 * i], this.points[2 * i + 1])) continue;
      found.set(this.classId[i], (found.get(this.classId[i]) ?? 0) + 1);
    }
    return found;
  }

  /** The line as the service is told it; null where the points are not those that it lays out. */
  line() {
    const step = Math.ceil(this.loop.length / MOST_CORNERS);
    return this.drawnIn === null ? null : { layout: this.drawnIn, line: this.loop.filter((_, i) => i % step === 0) };
  }

  /** How many points are of a class. @param {number} id */
  number(id) {
    return this.classId.reduce((n, one) => n + Number(one === id), 0);
  }

  /** @param {number} id */
  depth(id) {
    if (id === this.emphasis) return 9;
    return { host: 0, neighbour: 2, defect: 3 }[this.looks.get(id)?.role ?? ""] ?? 1;
  }
}

/** Whether a point is within a polygon (a ray to the right crosses it an odd number of times). @param {[number, number][]} polygon @param {number} x @param {number} y */
function inside(polygon, x, y) {
  let odd = false;
  for (let i = 0, j = polygon.length - 1; i < polygon.length; j = i++) {
    const [xi, yi] = polygon[i];
    const [xj, yj] = polygon[j];
    if (yi > y !== yj > y && x < ((xj - xi) * (y - yi)) / (yj - yi) + xi) odd = !odd;
  }
  return odd;
}

/** Range of one coordinate without its farthest outliers. @param {Float32Array} points @param {0 | 1} axis @returns {[number, number]} */
function bounds(points, axis) {
  const values = new Float32Array(points.length / 2);
  for (let i = 0; i < values.length; i++) values[i] = points[2 * i + axis];
  values.sort();
  const trim = Math.floor(values.length * 0.002);
  return [values[trim], values[values.length - 1 - trim]];
}
