/** Marks over the picture: colour and shape say what a site is, opacity how sure that is. */

import { channels, stampOf } from "./raster.js";
import { DEFECT, HOST, NEIGHBOUR, UNKNOWN } from "./sites.js";
/** @import {Stamp, Style} from "../types.d.ts" */
/** @import {Sites} from "./sites.js" */

/** Of all that is written with a pen; the style sheet has it of what is written as text. */
export const FONT = 'Inter, "Segoe UI", Roboto, "Liberation Sans", Arial, sans-serif';
const FULL = 2 * Math.PI;
const HALO = "rgba(4, 7, 12, 0.66)";
const NEUTRAL = "#c6d0dd";
const MOST_NAMES = 60;  // more, or at rings smaller than this, would cover the frame
const NAMES_FROM_RADIUS = 11;
const FAINTEST = 0.3;  // opacity of a site that might as well be something else
const SURE = 0.99;

/**
 * Radius of a defect's mark: a third of the lattice constant, kept between what can be seen and what covers too much.
 * @param {number} spacing [frame px] @param {number} scale
 */
export const markRadius = (spacing, scale) => Math.min(30, Math.max(5, 0.34 * spacing * scale));

/** Opacity of a mark, 0 to 1, from what one half of doubt to certainty. @param {number} confidence */
export const opacityOf = (confidence) =>
  FAINTEST + (1 - FAINTEST) * Math.min(1, Math.max(0, (confidence - 0.5) / (SURE - 0.5)));

/** @param {string} colour the same hue, closer to grey */
export function quiet(colour) {
  const mixed = channels(colour).map((value) => Math.round(0.55 * value + 0.45 * 140));
  return `#${mixed.map((value) => value.toString(16).padStart(2, "0")).join("")}`;
}

/**
 * The outline of a shape of radius 1, as points; a circle has none.
 * @param {string} shape
 * @returns {[number, number][] | null}
 */
export function outline(shape) {
  const polygon = (n, turn, r = 1.08) =>
    Array.from({ length: n }, (_, i) => {
      const angle = turn + (i * FULL) / n;
      return /** @type {[number, number]} */ ([r * Math.cos(angle), r * Math.sin(angle)]);
    });
  if (shape === "up") return polygon(3, -FULL / 4, 1.25);
  if (shape === "down") return polygon(3, FULL / 4, 1.25);
  if (shape === "diamond") return polygon(4, 0, 1.18);
  if (shape === "square") return polygon(4, FULL / 8, 1.25);
  if (shape === "hexagon") return polygon(6, 0, 1.1);
  return null;
}

export class Marks {
  constructor() {
    /** @type {Map<string, Stamp>} */
    this.stamps = new Map();
  }

  /** @param {string} key @param {number} reach @param {(pen: OffscreenCanvasRenderingContext2D) => void} paint */
  stamp(key, reach, paint) {
    let found = this.stamps.get(key);
    if (!found) {
      if (this.stamps.size > 400) this.stamps.clear();  // every zoom step has its own
      this.stamps.set(key, (found = stampOf(reach, paint)));
    }
    return found;
  }

  /** @param {string} shape @param {string} colour @param {number} radius @param {number} ratio @param {boolean} dashed */
  open(shape, colour, radius, ratio, dashed) {
    const width = Math.min(2.6, 1.5 + radius / 24) * ratio;
    const r = radius * ratio;
    const halo = (radius < 8 ? 1.4 : 2.2) * ratio;
    return this.stamp(`${shape}${colour}${r.toFixed(1)}${dashed}`, 1.25 * r + width + halo, (pen) => {
      if (dashed) pen.setLineDash([(FULL * r) / 8, (FULL * r) / 5 - (FULL * r) / 8]);
      const points = outline(shape);
      pen.beginPath();
      pen.lineJoin = "round";
      if (points) {
        points.forEach(([x, y], i) => (i ? pen.lineTo(r * x, r * y) : pen.moveTo(r * x, r * y)));
        pen.closePath();
      } else {
        pen.arc(0, 0, r, 0, FULL);
      }
      pen.strokeStyle = HALO;
      pen.lineWidth = width + halo;
      pen.stroke();
      pen.strokeStyle = colour;
      pen.lineWidth = width;
      pen.stroke();
    });
  }

  /** @param {string} colour @param {number} radius @param {number} ratio */
  dot(colour, radius, ratio) {
    const r = radius * ratio;
    return this.stamp(`.${colour}${r.toFixed(1)}`, r + 1.5 * ratio, (pen) => {
      pen.arc(0, 0, r, 0, FULL);
      if (radius >= 2) {
        pen.strokeStyle = HALO;
        pen.lineWidth = 2.2 * ratio;
        pen.stroke();
      }
      pen.fillStyle = colour;
      pen.fill();
    });
  }

  /**
   * @param {import("./raster.js").Raster} raster
   * @param {import("./viewport.js").Viewport} view
   * @param {Sites} sites
   * @param {Style} style
   */
  draw(raster, view, sites, style) {
    const { ratio } = style;
    const radius = markRadius(style.spacing, view.scale);
    const roles = [style.shown.host, style.shown.defect, style.shown.neighbour, style.shown.unknown];
    // Small marks first, so that a defect is never under its neighbours.
    for (const role of [HOST, NEIGHBOUR, UNKNOWN, DEFECT]) {
      if (style.learnt && !roles[role]) continue;
      for (const group of sites.groups.values()) {
        if (group.role !== role || style.hidden.has(group.classId)) continue;
        const dim = style.emphasis !== null && style.emphasis !== group.classId ? 0.16 : 1;
        const look = style.looks.get(group.classId);
        const colour = look?.colour ?? NEUTRAL;
        const dotted = !style.learnt || role === HOST || role === NEIGHBOUR;
        const size = !style.learnt ? 1.4 : role === HOST ? Math.min(3.5, Math.max(1.2, radius * 0.16)) : Math.min(5, Math.max(2.5, radius * 0.32));
        const plain = dotted ? this.dot(colour, size, ratio) : this.open(look?.shape ?? "circle", colour, radius, ratio, role === UNKNOWN);
        for (const i of group.sites) {
          const x = (view.x0 + (sites.position[2 * i + 1] + 0.5) * view.scale) * ratio;
          const y = (view.y0 + (sites.position[2 * i] + 0.5) * view.scale) * ratio;
          let stamp = plain;
          if (role === NEIGHBOUR && style.learnt) {
            const of = sites.defectBeside(i, 1.3 * style.spacing);
            const hue = of < 0 ? undefined : style.looks.get(sites.classId[of])?.colour;
            if (hue) stamp = this.dot(quiet(hue), size, ratio);
          }
          const sure = dotted ? (style.learnt ? 0.9 : 0.7) : role === UNKNOWN ? 0.85 : opacityOf(sites.confidence[i]);
          raster.print(stamp, x, y, Math.round(256 * dim * sure));
        }
      }
    }
  }
}

/**
 * Names beside the defects in view, while they are few enough to be read.
 * @param {OffscreenCanvasRenderingContext2D} context in CSS pixels
 * @param {import("./viewport.js").Viewport} view @param {Sites} sites @param {Style} style
 */
export function drawNames(context, view, sites, style) {
  const radius = markRadius(style.spacing, view.scale);
  if (!style.learnt || !style.shown.defect || radius < NAMES_FROM_RADIUS) return;
  /** @type {[string, number, number][]} */
  const labels = [];
  for (const group of sites.groups.values()) {
    const look = style.looks.get(group.classId);
    if (group.role !== DEFECT || !look || style.hidden.has(group.classId)) continue;
    if (style.emphasis !== null && style.emphasis !== group.classId) continue;
    for (const i of group.sites) {
      const [x, y] = view.toScreen(sites.row(i), sites.column(i));
      if (x < 0 || y < 0 || x > view.width || y > view.height) continue;
      labels.push([look.name.length > 24 ? `${look.name.slice(0, 23)}…` : look.name, x + radius * 1.2 + 5, y]);
    }
    if (labels.length > MOST_NAMES) return;
  }
  context.font = `600 ${Math.round(0.93 * style.rem)}px ${FONT}`;
  context.textBaseline = "middle";
  context.lineJoin = "round";
  context.lineWidth = 3.5;
  context.strokeStyle = "rgba(4, 7, 12, 0.85)";
  context.fillStyle = "#f2f5f9";
  const high = style.rem;
  /** Of those that are written. @type {[number, number, number][]} */
  const written = [];
  for (const [name, x, y] of labels) {
    const right = x + context.measureText(name).width;
    if (written.some(([left, end, at]) => Math.abs(at - y) < high && left < right && x < end)) continue;  // none over another
    written.push([x, right, y]);
    context.strokeText(name, x, y);
    context.fillText(name, x, y);
  }
}

/**
 * @param {OffscreenCanvasRenderingContext2D} context in CSS pixels
 * @param {number} x @param {number} y @param {number} radius
 */
export function drawSelection(context, x, y, radius) {
  const path = new Path2D();
  for (let quarter = 0; quarter < 4; quarter++) {
    const angle = (quarter * FULL) / 4;
    const [dx, dy] = [Math.cos(angle), Math.sin(angle)];
    path.moveTo(x + dx * (1.25 * radius + 4), y + dy * (1.25 * radius + 4));
    path.lineTo(x + dx * (1.25 * radius + 14), y + dy * (1.25 * radius + 14));
  }
  context.strokeStyle = HALO;
  context.lineWidth = 4.5;
  context.stroke(path);
  context.strokeStyle = "#ffffff";
  context.lineWidth = 2;
  context.stroke(path);
}

/**
 * Where a site has been, in the coordinates of the frame on the screen.
 * @param {OffscreenCanvasRenderingContext2D} context @param {[number, number][]} points x, y @param {string} colour
 */
export function drawTrail(context, points, colour) {
  if (points.length < 2) return;
  context.beginPath();
  points.forEach(([x, y], i) => (i ? context.lineTo(x, y) : context.moveTo(x, y)));
  context.lineJoin = "round";
  context.strokeStyle = HALO;
  context.lineWidth = 3.6;
  context.stroke();
  context.strokeStyle = colour;
  context.lineWidth = 1.6;
  context.stroke();
}
