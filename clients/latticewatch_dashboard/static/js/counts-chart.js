// @ts-check
/** Defects per frame over time, a line for each class with its name at the end of it. */

import { clearedCanvas } from "./dom.js";
import { integer, plain } from "./format.js";
import { AXIS, FONT, GRID, ticksTo } from "./plot.js";

const GAP_S = 5;  // a longer pause between frames breaks the line
const SHORTEST_S = 10;
const MARGIN = { left: 40, right: 74, top: 10, bottom: 38 };
const LABEL_PX = 13;

/** @typedef {{class_id: number, name: string, colour: string}} Line */

/**
 * @param {HTMLCanvasElement} canvas
 * @param {import("./history.js").CountHistory} history
 * @param {Line[]} lines
 */
export function drawCounts(canvas, history, lines) {
  const { context, width, height } = clearedCanvas(canvas);
  if (width < 120 || height < 60) return;
  const box = { x: MARGIN.left, y: MARGIN.top, width: width - MARGIN.left - MARGIN.right, height: height - MARGIN.top - MARGIN.bottom };
  const newest = history.length ? history.time[history.slot(history.length - 1)] : 0;
  const span = Math.max(SHORTEST_S, history.length ? newest - history.time[history.slot(0)] : 0);
  const highest = lines.reduce((most, { class_id: id }) => Math.max(most, peak(history, id)), 1);
  const yTicks = ticksTo(highest * 1.05, 4).filter((tick) => Number.isInteger(tick));
  const top = yTicks[yTicks.length - 1];
  const x = (/** @type {number} */ time) => box.x + box.width * (1 - (newest - time) / span);
  const y = (/** @type {number} */ n) => box.y + box.height * (1 - n / top);

  context.font = FONT;
  context.lineWidth = 1;
  context.textBaseline = "middle";
  context.textAlign = "right";
  for (const tick of yTicks) {
    context.strokeStyle = GRID;
    line(context, box.x, y(tick), box.x + box.width, y(tick));
    context.fillStyle = AXIS;
    context.fillText(integer(tick), box.x - 7, y(tick));
  }
  context.textAlign = "center";
  for (const tick of ticksTo(span, 4)) {
    if (tick > span * 1.0001) continue;
    context.fillText(tick ? `−${plain(tick)}` : "0", x(newest - tick), box.y + box.height + 12);
  }
  context.fillText("time before the newest frame [s]", box.x + box.width / 2, height - 7);

  context.save();
  context.beginPath();
  context.rect(box.x, 0, box.width + 4, height);
  context.clip();
  context.lineJoin = "round";
  context.lineWidth = 1.75;
  for (const { class_id: id, colour } of lines) {
    const ring = history.counts.get(id);
    if (!ring || !history.length) continue;
    context.strokeStyle = colour;
    context.fillStyle = colour;
    context.stroke(tracePath(history, ring, x, y));
    context.beginPath();
    context.arc(x(newest), y(ring[history.slot(history.length - 1)]), 2.6, 0, 2 * Math.PI);
    context.fill();
  }
  context.restore();
  drawLabels(context, history, lines, { x: box.x + box.width + 9, y, box });
}

/** @param {import("./history.js").CountHistory} history @param {number} id */
function peak(history, id) {
  const ring = history.counts.get(id);
  let most = 0;
  if (ring) for (let i = 0; i < history.length; i++) most = Math.max(most, ring[history.slot(i)]);
  return most;
}

/**
 * @param {import("./history.js").CountHistory} history @param {Float32Array} ring
 * @param {(time: number) => number} x @param {(n: number) => number} y
 */
function tracePath(history, ring, x, y) {
  const path = new Path2D();
  let before = -Infinity;
  for (let i = 0; i < history.length; i++) {
    const slot = history.slot(i);
    const time = history.time[slot];
    if (time - before > GAP_S) path.moveTo(x(time), y(ring[slot]));
    else path.lineTo(x(time), y(ring[slot]));
    before = time;
  }
  return path;
}

/**
 * Names at the line ends, moved apart where they would meet.
 * @param {CanvasRenderingContext2D} context @param {import("./history.js").CountHistory} history @param {Line[]} lines
 * @param {{x: number, y: (n: number) => number, box: {y: number, height: number}}} place
 */
function drawLabels(context, history, lines, { x, y, box }) {
  if (!history.length) return;
  const last = history.slot(history.length - 1);
  const labels = lines
    .map(({ class_id: id, name, colour }) => ({ name, colour, y: y(history.counts.get(id)?.[last] ?? 0) }))
    .sort((a, b) => a.y - b.y)
    .slice(0, Math.floor(box.height / LABEL_PX));
  for (let i = 1; i < labels.length; i++) labels[i].y = Math.max(labels[i].y, labels[i - 1].y + LABEL_PX);
  let limit = box.y + box.height;
  for (let i = labels.length - 1; i >= 0; i--, limit -= LABEL_PX) labels[i].y = Math.min(labels[i].y, limit);
  context.textAlign = "left";
  for (const { name, colour, y: at } of labels) {
    context.fillStyle = colour;
    context.fillText(name.length > 11 ? `${name.slice(0, 10)}…` : name, x, at);
  }
}

/** @param {CanvasRenderingContext2D} context @param {number} x0 @param {number} y0 @param {number} x1 @param {number} y1 */
function line(context, x0, y0, x1, y1) {
  context.beginPath();
  context.moveTo(x0, Math.round(y0) + 0.5);
  context.lineTo(x1, Math.round(y1) + 0.5);
  context.stroke();
}

/**
 * The course of one class, without axes: the number beside it has the unit.
 * @param {HTMLCanvasElement} canvas @param {import("./history.js").CountHistory} history
 * @param {number} id @param {string} colour
 */
export function drawSparkline(canvas, history, id, colour) {
  const { context, width, height } = clearedCanvas(canvas);
  const ring = history.counts.get(id);
  if (!ring || history.length < 2 || !width) return;
  let least = Infinity;
  let most = -Infinity;
  for (let i = 0; i < history.length; i++) {
    least = Math.min(least, ring[history.slot(i)]);
    most = Math.max(most, ring[history.slot(i)]);
  }
  const range = Math.max(most - least, 4);  // a count that flickers by one is drawn as calm as it is
  const middle = (most + least) / 2;
  context.beginPath();
  for (let i = 0; i < history.length; i++) {
    const x = 1 + ((width - 4) * i) / (history.length - 1);
    const y = height / 2 - ((ring[history.slot(i)] - middle) / range) * (height - 5);
    if (i) context.lineTo(x, y);
    else context.moveTo(x, y);
  }
  context.strokeStyle = colour;
  context.globalAlpha = 0.9;
  context.lineWidth = 1.4;
  context.lineJoin = "round";
  context.stroke();
}
