// @ts-check
/** What the classifier works with, now: the layout with the newest frame in it, and the components beside their edge. */

import { ApiError, getJson } from "./access.js";
import { byId, clearedCanvas, element, setText } from "./dom.js";
import { fixed, integer } from "./format.js";

const EVERY_MS = 4000;
const MOST_BARS = 14;

/** @typedef {{sublattice: number, variances: number[], edge: number | null, n_components: number, rows: number}} Space */

export class SpaceFeed {
  /** @param {import("./embedding-plot.js").EmbeddingPlot} plot */
  constructor(plot) {
    this.plot = plot;
    this.asked = -Infinity;
    this.busy = false;
    this.live = false;
  }

  /** Ask again, if somebody can see it and the last answer is old. */
  async refresh() {
    if (this.busy || document.hidden || !this.plot.canvas.clientWidth) return;
    if (performance.now() - this.asked < EVERY_MS) return;
    this.busy = true;
    this.asked = performance.now();
    try {
      const [embedding, model] = await Promise.all([getJson("v1/embedding"), getJson("v1/model")]);
      this.take(embedding);
      this.drawComponents(model.sublattices);
    } catch (error) {
      // 404 comes before anything is learnt, too; a service without it answers so for ever, which costs little
      if (error instanceof ApiError && error.status !== 404) this.asked += EVERY_MS;
    } finally {
      this.busy = false;
    }
  }

  /** @param {any} embedding */
  take({ pool, pool_class: poolClass, sites, site_class: siteClass, frame }) {
    this.live = pool.length > 0;
    if (!this.live) return;
    this.plot.setPoints(Float32Array.from(pool.flat()), Int16Array.from(poolClass));
    const placed = sites.map((/** @type {any} */ _, /** @type {number} */ i) => i).filter((/** @type {number} */ i) => sites[i]);
    this.plot.setSites(
      Float32Array.from(placed.flatMap((/** @type {number} */ i) => sites[i])),
      Int16Array.from(placed, (/** @type {number} */ i) => siteClass[i]),
    );
    this.plot.draw();
    byId("no-embedding").hidden = true;
    setText(byId("embedding-size"), `${integer(pool.length)} sites, frame ${frame} in squares`);
  }

  /** @param {Space[]} spaces */
  drawComponents(spaces) {
    const box = byId("components");
    if (box.childElementCount !== spaces.length) {
      box.replaceChildren(...spaces.map(() => element("div", {}, element("canvas", { role: "img" }), element("span", {}))));
    }
    spaces.forEach(({ sublattice, variances, edge, n_components: n }, i) => {
      const [canvas, text] = box.children[i].children;
      const name = String.fromCharCode(65 + sublattice);
      setText(text, `${name}: ${n} above the noise`);
      canvas.setAttribute("aria-label", `Variances of the hosts of ${name} along their components [σ²]: ${variances.slice(0, 5).map((one) => fixed(one, 2)).join(", ")}; noise reaches ${edge === null ? "unknown" : fixed(edge, 2)}`);
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
