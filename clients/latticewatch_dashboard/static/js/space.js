/** What the classifier works with, now: the layout with the newest frame in it, and the components beside their edge. */

import { byId, clearedCanvas, element, say, setText } from "./dom.js";
import { embedding as words } from "./words.js";
/** @import {SpaceNow} from "./types.d.ts" */

const MOST_BARS = 14;

export class SpacePanel {
  /**
   * @param {import("./embedding-plot.js").EmbeddingPlot} plot
   * @param {(wanted: boolean) => void} wanted told when somebody can see it, or no longer can
   */
  constructor(plot, wanted) {
    this.plot = plot;
    this.live = false;
    new ResizeObserver(() => wanted(plot.canvas.clientWidth > 0)).observe(plot.canvas);
  }

  /** Nothing is learnt any more. */
  clear() {
    this.live = false;
    this.plot.layout = null;
    byId("components").replaceChildren();
  }

  /** @param {{now: SpaceNow, points?: Float32Array, classId?: Int16Array, pool?: Float32Array, poolClass?: Int16Array, tracks: Int32Array | null}} space */
  take({ now, points, classId, pool, poolClass, tracks }) {
    this.drawComponents(now.sublattices);
    if (pool && poolClass) {
      this.live = true;
      this.plot.setPoints(pool, poolClass);
      this.plot.layout = now.layout;
      this.plot.canvas.dataset.layout = String(now.layout);
    }
    if (!this.live || !points || !classId) return;
    this.plot.setSites(points, classId, tracks);
    this.plot.draw();
    byId("no-embedding").hidden = true;
    say("embedding-size", words.live(this.plot.length, now.frame));
  }

  /** @param {SpaceNow["sublattices"]} spaces */
  drawComponents(spaces) {
    const box = byId("components");
    if (box.childElementCount !== spaces.length) {
      box.replaceChildren(...spaces.map(() => element("div", {}, element("canvas", { role: "img" }), element("span", {}))));
    }
    spaces.forEach(({ sublattice, variances, edge, n_components: n }, i) => {
      const [canvas, text] = box.children[i].children;
      const name = String.fromCharCode(65 + sublattice);
      setText(text, words.above(name, n));
      canvas.setAttribute("aria-label", words.components(name, variances.slice(0, 5), edge));
      /** @type {HTMLElement} */ (canvas).title = canvas.getAttribute("aria-label") ?? "";
      drawBars(/** @type {HTMLCanvasElement} */ (canvas), variances.slice(0, MOST_BARS), edge, n);
    });
  }
}

/** @param {HTMLCanvasElement} canvas @param {number[]} variances @param {number | null} edge @param {number} n */
function drawBars(canvas, variances, edge, n) {
  const { context, width, height } = clearedCanvas(canvas);
  const style = getComputedStyle(document.documentElement);
  const most = Math.max(...variances, edge ?? 0, 1e-9);
  const step = width / MOST_BARS;
  variances.forEach((one, i) => {
    context.fillStyle = style.getPropertyValue(i < n ? "--accent" : "--edge");
    const h = Math.max(1, (height - 2) * (one / most));
    context.fillRect(i * step + 1, height - h, step - 2, h);
  });
  if (edge === null) return;
  context.fillStyle = style.getPropertyValue("--warn");
  context.fillRect(0, Math.round(height - (height - 2) * (edge / most)), width, 1);
}
