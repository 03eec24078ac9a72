/** The live frame as the page knows it: where it lies, which site is meant, and what is written over it. */

import { byId, on, say } from "./dom.js";
import { plain, roundLength } from "./format.js";
import { attachGestures } from "./gestures.js";
import { markRadius } from "./live/marks.js";
import { Sites } from "./live/sites.js";
import { Viewport } from "./live/viewport.js";
import { SiteTooltip } from "./tooltip.js";
import { place as places } from "./words.js";
/** @import {ClassSummary, Summary} from "./types.d.ts" */

const REACH_PX = 14;  // how far from a site the pointer still means it
const CLICK_PX = 5;  // further than this, a press was a drag

export class FrameView {
  /**
   * @param {{moved: () => void, chosen: (track: number, site: number) => void, pointed: (track: number) => void, probed: (row: number, column: number) => void}} handlers
   * @param {{row: number, column: number, zoom: number} | null} opening the part of the first frame that is shown; null for all of it
   */
  constructor(handlers, opening) {
    this.handlers = handlers;
    this.opening = opening;
    this.stage = byId("stage");
    this.markers = byId("markers");
    this.view = new Viewport();
    this.sites = new Sites();
    this.tooltip = new SiteTooltip();
    /** @type {Summary["header"] | null} */
    this.header = null;
    /** @type {Map<number, ClassSummary>} */
    this.looks = new Map();
    this.spacing = 20;
    this.number = 0;  // of the view: what the worker tells of an older one comes too late
    /** Track that stays chosen while frames go by, or -1. */
    this.track = -1;
    this.hovered = -1;
    this.hoveredTrack = -1;
    /** @type {{row: number, column: number} | null} */
    this.crossed = null;
    this.stepped = false;  // whether the tooltip belongs to the keyboard
    attachGestures(this.markers, this.view, () => {
      this.point(null);
      this.moved();
    });
    this.attachPointer();
    this.attachMinimap();
    new ResizeObserver(() => this.resized()).observe(this.stage);
    this.resized(false);
  }

  get ratio() {
    return Math.min(window.devicePixelRatio || 1, 2);
  }

  resized(tell = true) {
    this.view.resize(this.stage.clientWidth, this.stage.clientHeight);
    if (tell) this.moved();
  }

  /** The view has changed: say so, and write anew what depends on it. */
  moved() {
    this.markers.classList.toggle("zoomed", !this.view.fitted);
    this.number++;
    this.handlers.moved();
    this.drawCrosshair();
    this.drawScaleBar();
    this.drawMinimap();
  }

  /** @param {Summary} summary */
  show(summary) {
    const { header, sites } = summary;
    this.header = header;
    const [rows, columns] = header.shape ?? [1, 1];
    this.view.setFrame(rows, columns);
    if (summary.place && summary.place.number === this.number && !summary.place.fitted) this.view.take(summary.place);
    this.view.setShift({ row: summary.shift[0], column: summary.shift[1] });
    if (this.opening && header.shape) {
      const { row, column, zoom } = this.opening;
      this.opening = null;
      this.view.zoom(zoom);
      this.view.centre(row, column);
      this.moved();
    }
    this.sites = new Sites(Object.fromEntries(Object.entries(sites).map(([name, data]) => [name, { shape: [], data }])));
    this.spacing = header.status.lattice_constant_px ?? Math.max(rows, columns) / 40;
    if (summary.overview) this.overview = summary.overview;
    if (this.hovered >= 0 || this.stepped) {
      const again = this.hoveredTrack >= 0 ? this.sites.ofTrack(this.hoveredTrack) : -1;
      if (again >= 0) this.hover(again);
      else this.hover(-1);
    }
    this.drawScaleBar();
    this.drawCrosshair();
    this.drawMinimap();
  }

  drawScaleBar() {
    const bar = this.bar;
    byId("scale-line").style.width = `${bar.length}px`;
    say("scale-text", this.header ? bar.text : "");
  }

  get bar() {
    const nm = this.header?.pixel_size_nm ?? null;
    const perUnit = nm ? this.view.scale / nm : this.view.scale;  // CSS px to a nm, or to a frame pixel
    const length = roundLength((0.18 * this.view.width) / perUnit);
    return { length: length * perUnit, text: `${plain(length)} ${nm ? "nm" : "px"}` };
  }

  attachPointer() {
    /** @type {[number, number] | null} */
    let pressed = null;
    const place = (event) => {
      const box = this.markers.getBoundingClientRect();
      return /** @type {[number, number]} */ ([event.clientX - box.left, event.clientY - box.top]);
    };
    this.markers.addEventListener("pointerdown", (event) => (pressed = place(event)));
    this.markers.addEventListener("pointerup", (event) => {
      const [x, y] = place(event);
      if (!pressed || Math.hypot(x - pressed[0], y - pressed[1]) > CLICK_PX) return;
      const site = this.siteAt([x, y]);
      this.handlers.chosen(site < 0 ? -1 : this.sites.track[site], site);
    });
    this.markers.addEventListener("pointermove", (event) => {
      if (event.buttons) return;
      this.point(place(event));
    });
    this.markers.addEventListener("pointerleave", () => {
      this.point(null);
      say("readout", "");
    });
    this.markers.addEventListener("keydown", (event) => {
      if (event.key === "n") this.step(1);
      else if (event.key === "p") this.step(-1);
    });
  }

  /** @param {[number, number]} point */
  siteAt(point) {
    const reach = Math.max(REACH_PX, markRadius(this.spacing, this.view.scale)) / this.view.scale;
    return this.sites.nearest(...this.view.toFrame(...point), reach);
  }

  /** Look at what is under a point of the screen, or at nothing. @param {[number, number] | null} point */
  point(point) {
    this.hover(point ? this.siteAt(point) : -1);
    if (point) this.handlers.probed(...this.view.toFrame(...point));
  }

  /** @param {number} row @param {number} column @param {number | null} level */
  showLevel(row, column, level) {
    const nm = this.header?.pixel_size_nm;
    const place = nm ? places.nm((column + 0.5) * nm, (row + 0.5) * nm) : places.px(row, column);
    say("readout", level === null ? "" : places.intensity(place, level / 255));
  }

  /** @param {number} site index, or -1 for none */
  hover(site, byKeyboard = false) {
    this.hovered = site;
    this.stepped = byKeyboard && site >= 0;
    const before = this.hoveredTrack;
    this.hoveredTrack = site < 0 ? -1 : (this.sites.track[site] ?? -1);
    if (this.hoveredTrack !== before) this.handlers.pointed(this.hoveredTrack);
    if (site < 0) this.tooltip.hide();
    else this.showTooltip(site);
  }

  /** Mark a place that is pointed at elsewhere, or none. @param {{row: number, column: number} | null} place */
  cross(place) {
    this.crossed = place;
    this.drawCrosshair();
  }

  drawCrosshair() {
    const box = byId("crosshair");
    const [x, y] = this.crossed ? this.view.toScreen(this.crossed.row, this.crossed.column) : [-1, -1];
    box.hidden = x < 0 || y < 0 || x > this.view.width || y > this.view.height;
    box.style.setProperty("--x", `${x}px`);
    box.style.setProperty("--y", `${y}px`);
  }

  /** Go to the next defect in reading order. @param {1 | -1} direction */
  step(direction) {
    const notable = this.sites.notable();
    if (!notable.length) return;
    const at = notable.indexOf(this.hovered);
    const next = at < 0 ? (direction > 0 ? 0 : notable.length - 1) : at + direction;
    const site = notable[(next + notable.length) % notable.length];
    if (!this.view.fitted) {
      this.view.centre(this.sites.row(site), this.sites.column(site));
      this.moved();
    }
    this.hover(site, true);
    this.handlers.chosen(this.sites.track[site], site);
  }

  /**
   * Bring a place to the middle.
   * @param {number} row @param {number} column as they are in the frame on the screen [px]
   */
  goTo(row, column) {
    if (this.view.fitted) this.view.zoom(4);
    this.view.centre(row, column);
    this.moved();
  }

  /** @param {number} site */
  showTooltip(site) {
    const [x, y] = this.view.toScreen(this.sites.row(site), this.sites.column(site));
    if (x < 0 || y < 0 || x > this.view.width || y > this.view.height) {
      this.tooltip.hide();
      return;
    }
    this.tooltip.show({
      sites: this.sites, site, look: this.looks.get(this.sites.classId[site]), nm: this.header?.pixel_size_nm ?? null,
      x, y, gap: 1.25 * markRadius(this.spacing, this.view.scale) + 10, width: this.view.width - byId("zoom-in").offsetWidth - 14, height: this.view.height,
    });
  }

  /** The whole frame in small, and where the view is in it. */
  drawMinimap() {
    const box = byId("minimap");
    const { view } = this;
    box.hidden = view.fitted || !this.header;
    if (box.hidden) return;
    const canvas = byId("minimap-canvas");
    const context = canvas.getContext("2d");
    const scale = Math.min(canvas.width / view.columns, canvas.height / view.rows);
    context.fillStyle = "#05080d";
    context.fillRect(0, 0, canvas.width, canvas.height);
    if (this.overview) {
      const [rows, columns] = this.overview.shape;
      const image = context.createImageData(columns, rows);
      const words = new Uint32Array(image.data.buffer);
      for (let i = 0; i < words.length; i++) words[i] = 0xff000000 | (this.overview.data[i] * 0x010101);
      const small = new OffscreenCanvas(columns, rows);
      /** @type {OffscreenCanvasRenderingContext2D} */ (small.getContext("2d")).putImageData(image, 0, 0);
      context.drawImage(small, 0, 0, columns * this.overview.scale * scale, rows * this.overview.scale * scale);
    }
    for (const i of this.sites.notable()) {
      context.fillStyle = this.looks.get(this.sites.classId[i])?.colour ?? "#ffffff";
      context.fillRect(this.sites.column(i) * scale - 1, this.sites.row(i) * scale - 1, 2, 2);
    }
    const [top, left] = view.toFrame(0, 0);
    context.strokeStyle = "#ffffff";
    context.lineWidth = 1.5;
    context.strokeRect(left * scale, top * scale, (view.width / view.scale) * scale, (view.height / view.scale) * scale);
  }

  attachMinimap() {
    on("minimap", "click", (event) => {
      const box = byId("minimap").getBoundingClientRect();
      const side = Math.max(this.view.rows, this.view.columns);
      this.view.centre(((event.clientY - box.top) / box.height) * side, ((event.clientX - box.left) / box.width) * side);
      this.moved();
    });
  }
}
