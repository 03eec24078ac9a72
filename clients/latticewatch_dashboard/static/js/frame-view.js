// @ts-check
/** The live frame: the picture on one canvas, the markers on another, both under one viewport. */

import { byId, clearedCanvas, setText } from "./dom.js";
import { plain, roundLength } from "./format.js";
import { attachGestures } from "./gestures.js";
import { drawMarkers, ringRadius } from "./markers.js";
import { greyTable, Picture } from "./picture.js";
import { Sites } from "./sites.js";
import { SiteTooltip } from "./tooltip.js";
import { Viewport } from "./viewport.js";

const REACH_PX = 14;  // how far from a site the pointer still means it
const PIXELATED_ABOVE = 6;  // screen pixels to a frame pixel

/**
 * @typedef {import("./live-message.js").LiveHeader} LiveHeader
 * @typedef {import("./live-message.js").Section} Section
 */
export class FrameView {
  constructor() {
    this.stage = byId("stage");
    this.pictureCanvas = byId("picture");
    this.markerCanvas = byId("markers");
    this.picture = new Picture();
    this.view = new Viewport();
    this.sites = new Sites();
    this.tooltip = new SiteTooltip();
    /** @type {LiveHeader | null} */
    this.header = null;
    /** @type {import("./markers.js").Style} */
    this.style = {
      looks: new Map(),
      shown: { defect: true, neighbour: true, host: false, unknown: true },
      spacing: 20,
      emphasis: null,
      selected: -1,
      learnt: false,
    };
    /** Track that stays selected while frames go by, or -1. */
    this.track = -1;
    this.pending = 0;
    attachGestures(this.markerCanvas, this.view, () => {
      this.pointAt(null);
      this.requestDraw();
    });
    this.attachPointer();
    new ResizeObserver(() => {
      this.view.resize(this.stage.clientWidth, this.stage.clientHeight);
      this.requestDraw();
    }).observe(this.stage);
  }

  /** Longest side of picture worth sending at this zoom [px]. */
  get wantedSize() {
    return this.view.fitted ? 1024 : 2048;
  }

  /**
   * Take in a live message that brings a frame; the next `draw` shows it.
   * @param {LiveHeader} header @param {Record<string, Section>} arrays
   */
  show(header, arrays) {
    this.header = header;
    const [rows, columns] = header.shape ?? arrays.image.shape;
    this.view.setFrame(rows, columns);
    this.picture.show(arrays.image.shape, /** @type {Uint8Array} */ (arrays.image.data));
    this.sites = new Sites(arrays);
    this.style.spacing = header.status.lattice_constant_px ?? Math.max(rows, columns) / 40;
    this.style.learnt = this.style.looks.size > 0;
    this.style.selected = this.sites.ofTrack(this.track);
    if (this.style.selected < 0) this.tooltip.hide();
    else this.showTooltip(this.style.selected);
  }

  /** @param {Map<number, import("./markers.js").Look & {role: string}>} looks */
  setLooks(looks) {
    this.style.looks = looks;
    this.style.learnt = looks.size > 0;
  }

  /** @param {"defect" | "neighbour" | "host" | "unknown"} role @param {boolean} shown */
  setShown(role, shown) {
    this.style.shown[role] = shown;
    this.requestDraw();
  }

  /** @param {number | null} classId markers of other classes step back */
  setEmphasis(classId) {
    this.style.emphasis = classId;
    this.requestDraw();
  }

  /** @param {number} black @param {number} white @param {number} gamma */
  setContrast(black, white, gamma) {
    this.picture.setTable(greyTable(black, white, gamma));
    this.requestDraw();
  }

  requestDraw() {
    if (!this.pending) this.pending = requestAnimationFrame(() => this.draw());
  }

  draw() {
    cancelAnimationFrame(this.pending);
    this.pending = 0;
    const { view, header } = this;
    if (!header) return;
    const { context } = clearedCanvas(this.pictureCanvas);
    context.imageSmoothingEnabled = view.scale * header.image_scale < PIXELATED_ABOVE;
    context.imageSmoothingQuality = "low";
    const scale = view.scale * header.image_scale;
    const { canvas } = this.picture;
    context.drawImage(canvas, view.left, view.top, canvas.width * scale, canvas.height * scale);
    drawMarkers(clearedCanvas(this.markerCanvas).context, view, this.sites, this.style);
    this.drawScaleBar();
  }

  drawScaleBar() {
    const nm = this.header?.pixel_size_nm ?? null;
    const perUnit = nm ? this.view.scale / nm : this.view.scale;  // CSS px to a nm, or to a frame pixel
    const length = roundLength((0.18 * this.view.width) / perUnit);
    byId("scale-line").style.width = `${length * perUnit}px`;
    setText(byId("scale-text"), `${plain(length)} ${nm ? "nm" : "px"}`);
  }

  attachPointer() {
    const canvas = this.markerCanvas;
    canvas.addEventListener("pointermove", (/** @type {PointerEvent} */ event) => {
      if (event.buttons) return;
      const box = canvas.getBoundingClientRect();
      this.pointAt([event.clientX - box.left, event.clientY - box.top]);
    });
    canvas.addEventListener("pointerleave", () => this.pointAt(null));
    canvas.addEventListener("keydown", (/** @type {KeyboardEvent} */ event) => {
      if (event.key === "Escape") this.pointAt(null);
      else if (event.key === "n") this.step(1);
      else if (event.key === "p") this.step(-1);
    });
  }

  /** Select the site under a point of the screen, or none. @param {[number, number] | null} point */
  pointAt(point) {
    const reach = Math.max(REACH_PX, ringRadius(this.style.spacing, this.view.scale)) / this.view.scale;
    const site = point ? this.sites.nearest(...this.view.toFrame(...point), reach) : -1;
    if (site < 0 && this.style.selected < 0) return;
    this.select(site);
  }

  /** @param {number} site index, or -1 for none */
  select(site) {
    this.style.selected = site;
    this.track = site < 0 ? -1 : (this.sites.track[site] ?? -1);
    if (site < 0) this.tooltip.hide();
    else this.showTooltip(site);
    this.requestDraw();
  }

  /** Go to the next defect in reading order. @param {1 | -1} direction */
  step(direction) {
    const notable = this.sites.notable();
    if (!notable.length) return;
    const at = notable.indexOf(this.style.selected);
    const next = at < 0 ? (direction > 0 ? 0 : notable.length - 1) : at + direction;
    const site = notable[(next + notable.length) % notable.length];
    if (!this.view.fitted) this.view.centre(this.sites.row(site), this.sites.column(site));
    this.select(site);
  }

  /** Bring a place to the middle and select what is there. @param {{row: number, col: number}} px @param {number} track */
  goTo(px, track) {
    if (this.view.fitted) this.view.zoom(4);
    this.view.centre(px.row, px.col);
    this.markerCanvas.focus({ preventScroll: true });
    const site = this.sites.ofTrack(track);
    this.select(site >= 0 ? site : this.sites.nearest(px.row, px.col, this.style.spacing / 2));
  }

  /** @param {number} site */
  showTooltip(site) {
    const [x, y] = this.view.toScreen(this.sites.row(site), this.sites.column(site));
    this.tooltip.show({
      sites: this.sites,
      site,
      look: this.style.looks.get(this.sites.classId[site]),
      nm: this.header?.pixel_size_nm ?? null,
      x,
      y,
      gap: ringRadius(this.style.spacing, this.view.scale) + 10,
      width: this.view.width,
      height: this.view.height,
    });
  }
}
