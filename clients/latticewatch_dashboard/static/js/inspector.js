/** One site: what it looks like, beside the average of its class and the simulation; what it was before; its birth again. */

import { getBlob } from "./access.js";
import { byId, clearedCanvas, element, say } from "./dom.js";
import { fixed, percent } from "./format.js";
import { sign } from "./sign.js";
import { readable } from "./timeline.js";
import { place as places, site as words } from "./words.js";
/** @import {Chosen, ClassSummary, LiveSite} from "./types.d.ts" */

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
      text: words.none,
    }));
  }

  build() {
    this.built = true;
    byId("unpin").hidden = false;
    byId("main").classList.remove("free");
    const canvas = (id, label = "") =>
      /** @type {HTMLCanvasElement} */ (element("canvas", { id, role: "img", "aria-label": label }));
    const figure = (node, text) => element("figure", {}, node, element("figcaption", { text }));
    const image = (id, alt) => element("img", { id, alt });
    const button = (id, text, act) => {
      const node = element("button", { id, text });
      node.addEventListener("click", act);
      return node;
    };
    const { pictures, facts } = words;
    const fact = (name, wide = false) =>
      [element("dt", { text: facts[name][0], title: facts[name][1] }), element("dd", { id: `site-${name}`, text: "–", class: wide ? "wide" : "" })];
    this.box.replaceChildren(
      element("div", { class: "site-top" },
        element("div", { class: "site-head", id: "site-head" }),
        element("div", { class: "site-buttons" }, button("site-centre", words.follow, this.handlers.centre), button("site-replay", words.replay, this.handlers.replay))),
      element("div", { class: "replay", id: "replay", hidden: true }, canvas("replay-canvas", words.replayPicture), element("p", { id: "replay-text" })),
      element("div", { class: "triptych" },
        figure(canvas("site-patch", pictures.patch[1]), pictures.patch[0]),
        figure(image("site-average", pictures.average[1]), pictures.average[0]),
        figure(image("site-template", pictures.template[1]), pictures.template[0]),
        figure(image("site-difference", pictures.difference[1]), pictures.difference[0])),
      element("div", { class: "bars", id: "site-bars", role: "group", "aria-label": words.bars }),
      element("dl", { class: "facts" },
        ...fact("track"), ...fact("since"), ...fact("place", true), ...fact("shift", true), ...fact("separation", true), ...fact("like", true)),
      canvas("site-strip", words.strip),
      element("div", { class: "strip-note" }, element("span", { id: "strip-from" }), element("span", { text: words.stripNote }), element("span", { id: "strip-to" })),
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
    say("site-track", track >= 0 ? `#${track}` : words.noTrack);
    const known = header.site?.track === track && track >= 0 ? header.site : null;
    const own = site >= 0 && look ? [{ class_id: classId, probability: sites.confidence[site] }] : [];
    this.writeBars(known?.classes ?? own, looks);
    this.writeShift(known?.displacement_nm ?? null);
    const nm = header.pixel_size_nm;
    if (site >= 0) {
      const [row, column] = [sites.row(site), sites.column(site)];
      say("site-place", nm ? places.nm(column * nm, row * nm) : places.px(row, column));
    }
    say("site-separation", look?.separation == null ? "–" : `${fixed(look.separation, 1)} σ`);
    say("site-like", look?.template ? words.like(look.template, look.score) : "");
    byId("site-like").hidden = byId("site-like").previousElementSibling.hidden = !look?.template;
    const { 0: first, length: n } = course?.time ?? [];
    say("site-since", course && n ? `${fixed(course.time[n - 1] - first, 1)} s` : "–");
    if (summary.patch) paint(byId("site-patch"), summary.patch);
    void this.loadPictures(look, header.status.model_version);
    this.drawStrip(course, looks);
  }

  /** A bar for each class worth a mention, and one for all the others. @param {LiveSite["classes"]} classes @param {Map<number, ClassSummary>} looks */
  writeBars(classes, looks) {
    const rest = 1 - classes.reduce((sum, { probability }) => sum + probability, 0);
    const rows = classes.map(({ class_id: id, probability }) => ({ look: looks.get(id), name: looks.get(id)?.name ?? words.unknown, share: probability }));
    if (rows.length && rest > 0.0005) rows.push({ look: undefined, name: words.others, share: rest });
    const box = byId("site-bars");
    const key = rows.map(({ name, share, look }) => `${name}${percent(share)}${look?.colour}`).join();
    if (box.dataset.key === key) return;
    box.dataset.key = key;
    box.replaceChildren(...rows.flatMap(({ look, name, share }, i) => {
      const bar = element("i", {});
      bar.style.width = `${100 * share}%`;
      bar.style.background = readable(look?.colour ?? "#93a0b3");
      return [
        element("span", { class: "bar-name", title: name }, look ? sign(look.shape, readable(look.colour)) : null, element("span", { text: name })),
        element("span", { class: "bar" }, bar),
        element("span", i ? { text: percent(share) } : { id: "site-confidence", text: percent(share) }),
      ];
    }));
  }

  /** Length with its error, and the way it points: x along columns, y along rows. @param {LiveSite["displacement_nm"]} shift */
  writeShift(shift) {
    const fact = byId("site-shift");
    fact.hidden = fact.previousElementSibling.hidden = !shift;
    if (!shift) return;
    const angle = (180 / Math.PI) * Math.atan2(shift.y, shift.x);
    const arrow = element("span", { class: "arrow", "aria-hidden": "true", text: "→" });
    arrow.style.transform = `rotate(${angle}deg)`;
    fact.replaceChildren(arrow, words.shift(1000 * Math.hypot(shift.x, shift.y), 1000 * shift.sigma, angle, 1000 * shift.x, 1000 * shift.y));
  }

  /** @param {ClassSummary | undefined} look @param {boolean} here @param {string} role @param {boolean} learnt */
  writeHead(look, here, role, learnt) {
    const head = byId("site-head");
    const text = look?.name ?? (learnt ? words.unknown : words.notClassified);
    const key = `${text}${look?.colour}${here}${role}`;
    if (head.dataset.key === key) return;
    head.dataset.key = key;
    head.replaceChildren(
      sign(look?.shape ?? "circle", readable(look?.colour ?? "#ffffff"), !look),
      element("span", { id: "site-class", text }),
      element("span", { class: "aside", text: here ? role : words.notHere }),
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
    say("strip-from", course.time.length > 1 ? words.ago(span) : "");
    say("strip-to", words.now);
  }

  /** @param {{frames: {width: number, pixels: Uint8ClampedArray, after: number, frame: number | null}[]}} replay */
  play({ frames }) {
    if (!this.built) return;
    this.stopReplay();
    byId("replay").hidden = false;
    if (!frames.length) {
      say("replay-text", words.replayGone);
      return;
    }
    let at = 0;
    const next = () => {
      const one = frames[at];
      paint(byId("replay-canvas"), one);
      say("replay-text", words.replayFrame(one.frame, one.after));
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
