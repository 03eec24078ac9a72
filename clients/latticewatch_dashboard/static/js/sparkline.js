/** The course of one class, without axes: the number beside it has the unit. */

import { clearedCanvas } from "./dom.js";
import { readable } from "./timeline.js";

/**
 * @param {HTMLCanvasElement} canvas @param {import("./history.js").CountHistory} history
 * @param {number} id @param {string} colour
 */
export function drawSparkline(canvas, history, id, colour) {
  if (!canvas.clientWidth) return;
  const { context, width, height } = clearedCanvas(canvas);
  const ring = history.counts.get(id);
  if (!ring || history.length < 2) return;
  let least = Infinity;
  let most = -Infinity;
  for (let i = 0; i < history.length; i++) {
    const n = ring[history.slot(i)];
    if (Number.isNaN(n)) continue;
    least = Math.min(least, n);
    most = Math.max(most, n);
  }
  const range = Math.max(most - least, 4);  // a count that flickers by one is drawn as calm as it is
  const middle = (most + least) / 2;
  context.beginPath();
  let joined = false;
  for (let i = 0; i < history.length; i++) {
    const n = ring[history.slot(i)];
    if (Number.isNaN(n)) {
      joined = false;
      continue;
    }
    const x = 1 + ((width - 4) * i) / (history.length - 1);
    const y = height / 2 - ((n - middle) / range) * (height - 5);
    if (joined) context.lineTo(x, y);
    else context.moveTo(x, y);
    joined = true;
  }
  context.strokeStyle = readable(colour);
  context.globalAlpha = 0.9;
  context.lineWidth = 1.4;
  context.lineJoin = "round";
  context.stroke();
}
