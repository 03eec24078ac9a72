// @ts-check
/** One site: what it looks like, beside the average of its class and the simulation; what it was before; its birth again. */

import { getBlob } from "./access.js";
import { byId, clearedCanvas, element, setText } from "./dom.js";
import { fixed, percent, significant } from "./format.js";
import { sign } from "./sign.js";
import { readable } from "./timeline.js";
/** @import {Chosen, ClassSummary} from "./types.d.ts" */

const ROLE_NAMES = ["host", "defect", "neighbour", "unknown"];
const REPLAY_FRAME_MS = 220;
const HOLD_MS = 900;  // of the last picture, before it begins again

export class Inspector {
  /** @param {{replay: () => void, centre: () => void, patchSize: (px: number) => void}} handlers */
  constructor(handlers) {
    this.handlers = handlers;
    this.box = byId("inspector");
    /** Class whose pictures are there. @type {string} */
    this.pictured = "";
    /** @type {string[]} */
    this.addresses = [];
    this.timer = 0;
    this.clear();
  }

  clear() {
    this.stopReplay();
    this.built = false;
    this.pictured = "";
    byId("unpin").hidden = true;
    byId("main").classList.add("free");
    this.box.replaceChildren(element("p", {
      class: "none",
      text: "Click a site in the frame, or an event: its picture, its class and its past appear here.",
    }));
  }

  build() {
    this.built = true;
    byId("unpin").hidden = false;
    byId("main").classList.remove("free");
    const canvas = (/** @type {string} */ id, label = "") =>
      /** @type {HTMLCanvasElement} */ (element("canvas", { id, role: "img", "aria-label": label }));
    const figure = (/** @type {HTMLElement} */ node, /** @type {string} */ text) => element("figure", {}, node, element("figcaption", { text }));
    const image = (/** @type {string} */ id, /** @type {string} */ alt) => element("img", { id, alt });
    const button = (/** @type {string} */ id, /** @type {string} */ text, /** @type {() => void} */ act) => {
      const node = element("button", { id, type: "button", text });
      node.addEventListener("click", act);
      return node;
    };
    const fact = (/** @type {string} */ name, /** @type {string} */ id, title = "", wide = false) =>
      [element("dt", { text: name, title }), element("dd", { id, text: "–", class: wide ? "wide" : "" })];
    this.box.replaceChildren(
      element("div", { class: "site-head", id: "site-head" }),
      element("div", { class: "triptych" },
        figure(canvas("site-patch", "This site in this frame"), "this site"),
        figure(image("site-average", "Average patch of the class"), "class average"),
        figure(image("site-template", "Simulated patch that comes nearest"), "simulated"),
        figure(image("site-difference", "Average less simulated: red is more, blue is less"), "difference")),
      element("dl", { class: "facts" },
        ...fact("confidence", "site-confidence", "Probability of the class, given this site"), ...fact("track", "site-track"),
        ...fact("position", "site-place", "In the frame: x along columns, y along rows", true),
        ...fact("seen for", "site-since", "In the frames that are kept here"),
        ...fact("d′", "site-separation", "Distance of the class from its host, in standard deviations of the noise of one site"),
        ...fact("simulated", "site-like", "The simulated class that comes nearest, and the share of the difference from the host that it explains", true)),
      canvas("site-strip", "Class and confidence of this site over time"),
      element("div", { class: "strip-note" }, element("span", { id: "strip-from" }), element("span", { text: "confidence, coloured by class" }), element("span", { id: "strip-to" })),
      element("div", { class: "site-buttons" }, button("site-centre", "centre and follow", this.handlers.centre), button("site-replay", "▶ replay its birth", this.handlers.replay)),
      element("div", { class: "replay", id: "replay", hidden: true }, canvas("replay-canvas", "The place of this site around its birth"), element("p", { id: "replay-text" })),
    );
    byId("site-strip").classList.add("strip");
  }

  /** @param {Chosen} chosen */
  show(chosen) {
    if (!this.built) this.build();
    const { track, site, sites, summary, looks } = chosen;
    const { course, header } = summary;
    const classId = site >= 0 ? sites.classId[site] : (course?.classId.at(-1) ?? -1);
    const look = looks.get(classId);
    this.writeHead(look, site >= 0, site >= 0 ? ROLE_NAMES[sites.role[site]] : "", looks.size > 0);
    setText(byId("site-track"), track >= 0 ? `#${track}` : "none yet");
    setText(byId("site-confidence"), site >= 0 && look ? percent(sites.confidence[site]) : "–");
    const nm = header.pixel_size_nm;
    if (site >= 0) {
      const [row, column] = [sites.row(site), sites.column(site)];
      setText(byId("site-place"), nm ? `x ${fixed(column * nm, 2)} nm, y ${fixed(row * nm, 2)} nm` : `row ${fixed(row, 1)} px, column ${fixed(column, 1)} px`);
    }
    setText(byId("site-separation"), look?.separation == null ? "–" : `${fixed(look.separation, 1)} σ`);
    setText(byId("site-like"), look?.template ? `${look.template}, ${percent(look.score)} explained` : "–");
    const { 0: first, length: n } = course?.time ?? [];
    setText(byId("site-since"), course && n ? `${significant(course.time[n - 1] - first)} s` : "–");
    if (summary.patch) paint(byId("site-patch"), summary.patch);
    void this.loadPictures(look, header.status.model_version);
    this.drawStrip(course, looks);
  }

  /** @param {ClassSummary | undefined} look @param {boolean} here @param {string} role @param {boolean} learnt */
  writeHead(look, here, role, learnt) {
    const head = byId("site-head");
    const text = look?.name ?? (learnt ? "unknown" : "not classified yet");
    const key = `${text}${look?.colour}${here}${role}`;
    if (head.dataset.key === key) return;
    head.dataset.key = key;
    head.replaceChildren(
      sign(look?.shape ?? "circle", readable(look?.colour ?? "#ffffff"), !look),
      element("span", { id: "site-class", text }),
      element("span", { class: "aside", text: here ? role : "not in this frame" }),
    );
  }

  /** @param {ClassSummary | undefined} look @param {number} version */
  async loadPictures(look, version) {
    const key = look ? `${look.class_id}/${version}` : "none";
    if (key === this.pictured) return;
    this.pictured = key;
    for (const address of this.addresses) URL.revokeObjectURL(address);
    this.addresses = [];
    const names = look ? [["average", "site-average"], ...(look.score === null ? [] : [["template", "site-template"], ["difference", "site-difference"]])] : [];
    for (const id of ["site-average", "site-template", "site-difference"]) {
      byId(id).closest("figure").hidden = !names.some(([, one]) => one === id);
    }
    for (const [name, id] of names) {
      try {
        const blob = await getBlob(`v1/classes/${look?.class_id}/${name}.png?size=16`);
        if (key !== this.pictured) return;
        const address = URL.createObjectURL(blob);
        this.addresses.push(address);
        const image = byId(id);
        image.src = address;
        // As small as it comes, a pixel of it is one of the frame: the site beside it is cut out as large.
        if (name === "average") image.decode().then(() => this.handlers.patchSize(image.naturalWidth)).catch(() => {});
      } catch {
        if (key === this.pictured && this.built) byId(id).closest("figure").hidden = true;
      }
    }
  }

  /** @param {any} course @param {Map<number, ClassSummary>} looks */
  drawStrip(course, looks) {
    const { context, width, height } = clearedCanvas(byId("site-strip"));
    if (!course?.time.length) return;
    const first = course.time[0];
    const span = Math.max(course.time[course.time.length - 1] - first, 0.5);
    const step = Math.max(2, (width - 4) / Math.max(1, course.time.length));
    for (let i = 0; i < course.time.length; i++) {
      const x = 2 + ((width - 4 - step) * (course.time[i] - first)) / span;
      const h = Math.max(2, (height - 6) * course.confidence[i]);
      context.fillStyle = readable(looks.get(course.classId[i])?.colour ?? "#ffffff");
      context.globalAlpha = 0.85;
      context.fillRect(x, height - 3 - h, Math.max(1.2, step - 0.6), h);
    }
    setText(byId("strip-from"), `−${fixed(span, 0)} s`);
    setText(byId("strip-to"), "now");
  }

  /** @param {{frames: {width: number, pixels: Uint8ClampedArray, after: number, frame: number | null}[]}} replay */
  play({ frames }) {
    if (!this.built) return;
    this.stopReplay();
    byId("replay").hidden = false;
    if (!frames.length) {
      setText(byId("replay-text"), "The frames around its birth are no longer kept here.");
      return;
    }
    let at = 0;
    const next = () => {
      const one = frames[at];
      paint(byId("replay-canvas"), one);
      const sign = one.after < 0 ? "−" : "+";
      setText(byId("replay-text"), `frame ${one.frame ?? "–"}, ${sign}${fixed(Math.abs(one.after), 1)} s from when it was told`);
      at = (at + 1) % frames.length;
      this.timer = window.setTimeout(next, at ? REPLAY_FRAME_MS : HOLD_MS);
    };
    next();
    byId("replay").scrollIntoView({ block: "nearest" });
  }

  stopReplay() {
    window.clearTimeout(this.timer);
  }
}

/** @param {HTMLCanvasElement} canvas @param {{width: number, pixels: Uint8ClampedArray}} patch */
function paint(canvas, { width, pixels }) {
  if (canvas.width !== width || canvas.height !== width) {
    canvas.width = width;
    canvas.height = width;
  }
  const image = new ImageData(width, width);
  image.data.set(pixels);
  /** @type {CanvasRenderingContext2D} */ (canvas.getContext("2d")).putImageData(image, 0, 0);
}
