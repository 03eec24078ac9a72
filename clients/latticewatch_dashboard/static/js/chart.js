/** A chart over time: lines that break where a value is missing, axes with round numbers, a crosshair. */

import { clearedCanvas, element } from "./dom.js";
import { clock, fixed } from "./format.js";
import { FONT } from "./live/marks.js";
/** @import {ChartAxis, ChartLine, ChartLook} from "./types.d.ts" */

const TIME_STEPS_S = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10_800, 21_600, 43_200, 86_400];
const SIDE = 5.2;  // room for an axis [lines of text]
const NO_AXIS = 2.6;  // enough for half a time of day

/** The smallest 1, 2 or 5 times a power of ten that is not below a size. @param {number} least */
export function roundStep(least) {
  const decade = 10 ** Math.floor(Math.log10(least));
  return ([1, 2, 5].find((factor) => factor * decade >= least * (1 - 1e-9)) ?? 10) * decade;
}

/** Multiples of a step within a range. @param {number} low @param {number} high @param {number} step */
function multiples(low, high, step) {
  const first = Math.ceil(low / step - 1e-9);
  return Array.from({ length: Math.max(0, Math.floor(high / step + 1e-9) - first + 1) }, (_, i) => (first + i) * step);
}

/** How large it is written, and in which colours, as the page is now. @returns {ChartLook} */
export function lookOf() {
  const style = getComputedStyle(document.documentElement);
  const [muted, grid, accent, warn] = ["--muted", "--grid", "--accent", "--warn"].map((name) => style.getPropertyValue(name).trim());
  return { muted, grid, accent, warn, size: 0.82 * parseFloat(style.fontSize) };
}

export class Chart {
  /** @param {HTMLElement} box @param {{top: number, bottom: number}} room for marks above and for the times below [lines of text] */
  constructor(box, { top, bottom }) {
    this.box = box;
    this.room = { top, bottom, right: SIDE };
    this.canvas = /** @type {HTMLCanvasElement} */ (element("canvas"));
    this.line = element("i", { class: "cross", hidden: true });
    /** @type {number[]} */
    this.times = [];
    /** @type {ChartLine[]} */
    this.lines = [];
    this.look = lookOf();
    this.low = 0;
    this.high = 1;
    /** Where the lines were drawn [CSS px]. */
    this.area = { left: 0, top: 0, width: 0, height: 0 };
  }

  /** Where there is room for lines now: asked once a drawing, not once a point. */
  measured() {
    const { size } = this.look;
    const left = SIDE * size;
    const top = this.room.top * size;
    return { left, top, width: this.box.clientWidth - left - this.room.right * size, height: this.box.clientHeight - top - this.room.bottom * size };
  }

  /** Whether there is an axis on the right. @param {boolean} wanted */
  setRight(wanted) {
    this.room.right = wanted ? SIDE : NO_AXIS;
  }

  /** @param {number} time [s] */
  x(time) {
    const { left, width } = this.area;
    return left + (width * (time - this.low)) / (this.high - this.low);
  }

  /** @param {number} x from the left edge of the box [CSS px] @returns {number | null} nothing beside the lines */
  time(x) {
    const { left, width } = this.area;
    return this.canvas.isConnected && x >= left && x <= left + width ? this.low + ((x - left) / width) * (this.high - this.low) : null;
  }

  /** Index of the point nearest to a time that has a value, or -1. @param {number} time */
  nearest(time) {
    let best = -1;
    this.times.forEach((one, i) => {
      if (this.lines.every(({ values }) => values[i] === null)) return;  // a break
      if (best < 0 || Math.abs(one - time) < Math.abs(this.times[best] - time)) best = i;
    });
    return best;
  }

  /** Nothing is shown. */
  clear() {
    this.box.replaceChildren();
  }

  /**
   * @param {{times: number[], lines: ChartLine[], axes: ChartAxis[], low: number, high: number, look: ChartLook,
   *          over?: (pen: CanvasRenderingContext2D) => void}} what
   *   times rising [s]; the axes of the left and of the right side; ``over`` draws on top
   */
  draw({ times, lines, axes, low, high, look, over }) {
    Object.assign(this, { times, lines, low, high, look });
    if (!this.canvas.isConnected) this.box.replaceChildren(this.canvas, this.line);
    this.area = this.measured();
    const { left, top, width, height } = this.area;
    const { context: pen } = clearedCanvas(this.canvas);
    if (width < 20 || height < 10) return;
    pen.font = `${look.size}px ${FONT}`;
    if (this.room.bottom) this.drawTimes(pen);
    axes.forEach((axis, i) => this.drawAxis(pen, axis, i === 1));
    pen.save();
    pen.beginPath();
    pen.rect(left, top - 4, width + 4, height + 7);
    pen.clip();
    for (const line of lines) this.drawLine(pen, line, axes[line.axis ?? 0]);
    pen.restore();
    over?.(pen);
  }

  /** @param {CanvasRenderingContext2D} pen */
  drawTimes(pen) {
    const { left, top, width, height } = this.area;
    const { size, grid, muted } = this.look;
    const least = ((this.high - this.low) * 7 * size) / width;
    const step = TIME_STEPS_S.find((one) => one >= least) ?? 86_400 * Math.ceil(least / 86_400);
    pen.textAlign = "center";
    pen.textBaseline = "top";
    for (const time of multiples(this.low, this.high, step)) {
      const x = Math.round(this.x(time)) + 0.5;
      pen.fillStyle = grid;
      pen.fillRect(x - 0.5, top, 1, height + 4);
      pen.fillStyle = muted;
      if (x > left + 2 * size && x < left + width) pen.fillText(clock(new Date(1000 * time).toISOString()), x, top + height + 0.5 * size);
    }
  }

  /** @param {CanvasRenderingContext2D} pen @param {ChartAxis} axis @param {boolean} right */
  drawAxis(pen, { label, low, high, format }, right) {
    const { left, top, width, height } = this.area;
    const { size, grid, muted } = this.look;
    const few = !right && height < 4.5 * size;  // no room for more than the ends
    const step = roundStep(((high - low) * (few ? height / 10 : Math.min(2 * size, 0.3 * height))) / height);
    const digits = Math.max(0, -Math.floor(Math.log10(step) + 1e-9));
    pen.textAlign = right ? "left" : "right";
    pen.textBaseline = "middle";
    for (const value of few ? [low, high] : multiples(low, high, step)) {
      const y = top + height * (1 - (value - low) / (high - low));
      pen.fillStyle = grid;
      if (!right) pen.fillRect(left, Math.round(y), width, 1);
      pen.fillStyle = muted;
      pen.fillText(format ? format(value) : fixed(value, digits), right ? left + width + 5 : left - 5, y);
    }
    pen.save();
    pen.translate(right ? left + width + 4.8 * size : 0.8 * size, top + height / 2);
    pen.rotate(-Math.PI / 2);
    pen.textAlign = "center";
    pen.fillText(label, 0, 0, height + 0.8 * size);
    pen.restore();
  }

  /** @param {CanvasRenderingContext2D} pen @param {ChartLine} line @param {ChartAxis} axis */
  drawLine(pen, { values, colour, width = 1.75, dash = [], fill, band }, { low, high }) {
    const { top, height } = this.area;
    const y = (/** @type {number} */ value) => top + height * (1 - (value - low) / (high - low));
    const at = (/** @type {number} */ i, /** @type {number} */ value) => pen.lineTo(this.x(this.times[i]), y(value));
    for (const [from, to] of stretches(values)) {
      if (fill) {
        const [upper, under] = band ?? [values];
        pen.beginPath();
        for (let i = from; i <= to; i++) at(i, upper[i] ?? 0);
        for (let i = to; i >= from; i--) at(i, under ? (under[i] ?? 0) : low);
        pen.fillStyle = fill;
        pen.fill();
      }
      pen.beginPath();
      for (let i = from; i <= to; i++) at(i, /** @type {number} */ (values[i]));
      pen.setLineDash(dash);
      pen.strokeStyle = colour;
      pen.lineWidth = width;
      pen.lineJoin = "round";
      if (from === to) {  // one value alone is a dot, its band a bar
        if (band) {
          at(from, band[0][from] ?? 0);
          at(from, band[1][from] ?? 0);
        }
        pen.stroke();
        pen.beginPath();
        pen.arc(this.x(this.times[from]), y(/** @type {number} */ (values[from])), width, 0, 2 * Math.PI);
        pen.fillStyle = colour;
        pen.fill();
      }
      pen.stroke();
      pen.setLineDash([]);
    }
  }

  /** Put the crosshair at a time, or take it away. @param {number | null} time */
  point(time) {
    this.line.hidden = time === null || time < this.low || time > this.high || !this.canvas.isConnected;
    if (time !== null && !this.line.hidden) this.line.style.left = `${this.x(time)}px`;
  }
}

/** First and last index of each run of values without a gap. @param {(number | null)[]} values @returns {[number, number][]} */
function stretches(values) {
  /** @type {[number, number][]} */
  const found = [];
  values.forEach((value, i) => {
    if (value === null) return;
    const last = found[found.length - 1];
    if (last && last[1] === i - 1) last[1] = i;
    else found.push([i, i]);
  });
  return found;
}
