/** Grey levels and colours of the picture, over a histogram: display only, what is analysed does not change. */

import { byId, clearedCanvas, on, say } from "./dom.js";
import { MAP_NAMES } from "./live/raster.js";

const LEAST = 5;  // percent between black and white, or the picture would be a threshold
const AUTO_TAIL = 0.003;  // share of the pixels that may be black or white

/** @typedef {{black: number, white: number, gamma: number, map: string}} Contrast in percent */

export class ContrastMenu {
  /** @param {Contrast} values @param {(contrast: Contrast) => void} changed */
  constructor(values, changed) {
    this.changed = changed;
    this.black = byId("contrast-black");
    this.white = byId("contrast-white");
    this.gamma = byId("contrast-gamma");
    this.map = byId("contrast-map");
    this.canvas = byId("histogram");
    /** @type {Uint32Array} */
    this.counts = new Uint32Array(256);
    for (const name of MAP_NAMES) this.map.append(new Option(name, name));
    this.write(values);
    for (const field of [this.black, this.white, this.gamma, this.map]) field.addEventListener("input", () => this.apply());
    on("contrast-reset", "click", () => {
      this.write({ black: 0, white: 100, gamma: 1, map: "grey" });
      this.apply();
    });
    on("contrast-auto", "click", () => this.auto());
    on("contrast", "toggle", () => this.draw());
    this.attachDrag();
    closeOutside(byId("contrast"));
  }

  /** @param {Contrast} values */
  write({ black, white, gamma, map }) {
    this.black.value = String(black);
    this.white.value = String(white);
    this.gamma.value = String(gamma);
    this.map.value = MAP_NAMES.includes(map) ? map : "grey";
    this.say();
  }

  get values() {
    return { black: Number(this.black.value), white: Number(this.white.value), gamma: Number(this.gamma.value), map: this.map.value };
  }

  apply() {
    if (Number(this.white.value) - Number(this.black.value) < LEAST) {
      if (document.activeElement === this.white) this.black.value = String(Number(this.white.value) - LEAST);
      else this.white.value = String(Number(this.black.value) + LEAST);
    }
    this.say();
    this.draw();
    this.changed(this.values);
  }

  say() {
    say("contrast-black-value", `${this.black.value} %`);
    say("contrast-white-value", `${this.white.value} %`);
    say("contrast-gamma-value", Number(this.gamma.value).toFixed(2));
  }

  /** Black and white where the histogram begins and ends. */
  auto() {
    const total = this.counts.reduce((sum, n) => sum + n, 0);
    if (!total) return;
    const level = (share) => {
      let sum = 0;
      for (let i = 0; i < 256; i++) if ((sum += this.counts[i]) > share * total) return i;
      return 255;
    };
    const black = Math.min(90, Math.floor(level(AUTO_TAIL) / 2.55));
    const white = Math.min(100, Math.max(black + LEAST, Math.ceil(level(1 - AUTO_TAIL) / 2.55)));
    this.write({ ...this.values, black, white });
    this.apply();
  }

  /** @param {Uint32Array} counts */
  show(counts) {
    this.counts = counts;
    if (byId("contrast").open) this.draw();
  }

  draw() {
    if (!byId("contrast").open) return;
    const { context, width, height } = clearedCanvas(this.canvas);
    const style = getComputedStyle(document.documentElement);
    const most = Math.log1p(Math.max(...this.counts, 1));
    context.fillStyle = style.getPropertyValue("--muted");
    for (let i = 0; i < 256; i++) {
      const h = (Math.log1p(this.counts[i]) / most) * (height - 4);
      context.fillRect((i / 256) * width, height - h, width / 256 + 0.5, h);
    }
    const { black, white } = this.values;
    context.fillStyle = style.getPropertyValue("--accent");
    for (const at of [black, white]) context.fillRect((at / 100) * (width - 2), 0, 2, height);
  }

  /** The nearer of the two handles follows the pointer. */
  attachDrag() {
    /** @type {HTMLInputElement | null} */
    let held = null;
    const at = (event) => {
      const box = this.canvas.getBoundingClientRect();
      return Math.round(100 * Math.min(1, Math.max(0, (event.clientX - box.left) / box.width)));
    };
    const move = (event) => {
      if (!held) return;
      held.value = String(at(event));
      held.focus({ preventScroll: true });
      this.apply();
    };
    this.canvas.addEventListener("pointerdown", (event) => {
      const { black, white } = this.values;
      held = Math.abs(at(event) - black) < Math.abs(at(event) - white) ? this.black : this.white;
      this.canvas.setPointerCapture(event.pointerId);
      move(event);
    });
    this.canvas.addEventListener("pointermove", move);
    this.canvas.addEventListener("pointerup", () => (held = null));
  }
}

/** A menu closes with Escape, and when something else is pressed. @param {any} menu */
export function closeOutside(menu) {
  menu.addEventListener("keydown", (event) => {
    if (event.key !== "Escape" || !menu.open) return;
    event.stopPropagation();  // what is chosen elsewhere stays
    menu.open = false;
    menu.querySelector("summary").focus();
  });
  document.addEventListener("pointerdown", (event) => {
    if (menu.open && !menu.contains(/** @type {Node} */ (event.target))) menu.open = false;
  });
}
