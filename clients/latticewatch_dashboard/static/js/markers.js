// @ts-check
/** Markers over the frame: one mark is drawn for each class and printed at each of its sites. */

import { DEFECT, HOST, NEIGHBOUR, UNKNOWN } from "./sites.js";

const FULL = 2 * Math.PI;
const HALO = "rgba(4, 7, 12, 0.62)";
const NEUTRAL = "#c6d0dd";
const MOST_NAMES = 60;  // more, or at rings smaller than this, would cover the frame
const NAMES_FROM_RADIUS = 11;

/**
 * @typedef {import("./sites.js").Sites} Sites
 * @typedef {import("./viewport.js").Viewport} Viewport
 * @typedef {{name: string, colour: string}} Look
 * @typedef {{defect: boolean, neighbour: boolean, host: boolean, unknown: boolean}} Shown
 * @typedef {{looks: Map<number, Look>, shown: Shown, spacing: number, emphasis: number | null,
 *   selected: number, learnt: boolean}} Style
 */

/**
 * Radius of a defect's ring: a third of the lattice constant, kept between what can be seen and what covers too much.
 * @param {number} spacing [frame px] @param {number} scale
 */
export const ringRadius = (spacing, scale) => Math.min(30, Math.max(5, 0.34 * spacing * scale));

/**
 * @param {CanvasRenderingContext2D} context in CSS pixels, cleared
 * @param {Viewport} view
 * @param {Sites} sites
 * @param {Style} style
 */
export function drawMarkers(context, view, sites, style) {
  const radius = ringRadius(style.spacing, view.scale);
  const roles = [style.shown.host, style.shown.defect, style.shown.neighbour, style.shown.unknown];
  // Small marks first, so that a defect is never under its neighbours.
  for (const role of [HOST, NEIGHBOUR, UNKNOWN, DEFECT]) {
    if (style.learnt && !roles[role]) continue;
    for (const group of sites.groups.values()) {
      if (group.role !== role) continue;
      const dimmed = style.emphasis !== null && style.emphasis !== group.classId;
      context.globalAlpha = dimmed ? 0.16 : 1;
      const colour = style.looks.get(group.classId)?.colour ?? NEUTRAL;
      const places = placesInView(view, sites, group.sites, radius);
      if (!style.learnt) dots(context, places, 1.4, NEUTRAL, 0.7);
      else if (role === HOST) dots(context, places, Math.max(1.2, radius * 0.16), colour, 0.85);
      else if (role === NEIGHBOUR) dots(context, places, Math.max(2.5, radius * 0.32), colour, 1);
      else rings(context, places, radius, colour, role === UNKNOWN);
    }
  }
  context.globalAlpha = 1;
  if (style.learnt && style.shown.defect && radius >= NAMES_FROM_RADIUS) drawNames(context, view, sites, style, radius);
  if (style.selected >= 0) drawSelection(context, view, sites, style.selected, radius);
}

/**
 * Screen positions x, y, one after the other, of the sites that can be seen.
 * @param {Viewport} view @param {Sites} sites @param {number[]} indices @param {number} margin
 */
function placesInView(view, sites, indices, margin) {
  const places = [];
  for (const i of indices) {
    const x = view.left + (sites.position[2 * i + 1] + 0.5) * view.scale;
    const y = view.top + (sites.position[2 * i] + 0.5) * view.scale;
    if (x > -margin && y > -margin && x < view.width + margin && y < view.height + margin) places.push(x, y);
  }
  return places;
}

/**
 * @param {CanvasRenderingContext2D} context @param {number[]} places
 * @param {number} radius @param {string} colour @param {number} opacity
 */
function dots(context, places, radius, colour, opacity) {
  const before = context.globalAlpha;
  context.globalAlpha = before * opacity;
  stamp(context, places, radius + 1.5, (pen) => {
    pen.arc(0, 0, radius, 0, FULL);
    if (radius >= 2) {
      pen.strokeStyle = HALO;
      pen.lineWidth = 2.6;
      pen.stroke();
    }
    pen.fillStyle = colour;
    pen.fill();
  });
  context.globalAlpha = before;
}

/**
 * @param {CanvasRenderingContext2D} context @param {number[]} places
 * @param {number} radius @param {string} colour @param {boolean} dashed
 */
function rings(context, places, radius, colour, dashed) {
  const width = Math.min(2.6, 1.5 + radius / 24);
  stamp(context, places, radius + width / 2 + 1.5, (pen) => {
    if (dashed) pen.setLineDash([(FULL * radius) / 8, (FULL * radius) / 5 - (FULL * radius) / 8]);
    pen.arc(0, 0, radius, 0, FULL);
    pen.strokeStyle = HALO;
    pen.lineWidth = width + 2.4;
    pen.stroke();
    pen.strokeStyle = colour;
    pen.lineWidth = width;
    pen.stroke();
  });
}

/**
 * Draw one mark and print it at every place, on whole device pixels: without a graphics processor a thousand prints
 * cost what a hundred arcs do.
 * @param {CanvasRenderingContext2D} context @param {number[]} places
 * @param {number} reach from the centre of the mark to its edge [CSS px]
 * @param {(pen: OffscreenCanvasRenderingContext2D) => void} paint around 0, 0
 */
function stamp(context, places, reach, paint) {
  if (!places.length) return;
  const ratio = context.getTransform().a;
  const half = Math.ceil(reach * ratio);
  const mark = new OffscreenCanvas(2 * half, 2 * half);
  const pen = /** @type {OffscreenCanvasRenderingContext2D} */ (mark.getContext("2d"));
  pen.setTransform(ratio, 0, 0, ratio, half, half);
  paint(pen);
  const print = mark.transferToImageBitmap();
  context.save();
  context.setTransform(1, 0, 0, 1, 0, 0);
  for (let i = 0; i < places.length; i += 2) {
    context.drawImage(print, Math.round(places[i] * ratio) - half, Math.round(places[i + 1] * ratio) - half);
  }
  context.restore();
}

/**
 * Names beside the defects in view, while they are few enough to be read: colour is never the only sign of a class.
 * @param {CanvasRenderingContext2D} context @param {Viewport} view @param {Sites} sites
 * @param {Style} style @param {number} radius
 */
function drawNames(context, view, sites, style, radius) {
  /** @type {{look: Look, places: number[]}[]} */
  const labels = [];
  let total = 0;
  for (const group of sites.groups.values()) {
    const look = style.looks.get(group.classId);
    if (group.role !== DEFECT || !look) continue;
    if (style.emphasis !== null && style.emphasis !== group.classId) continue;
    const places = placesInView(view, sites, group.sites, 0);
    total += places.length / 2;
    labels.push({ look, places });
  }
  if (total > MOST_NAMES) return;
  context.font = '600 13px Inter, "Segoe UI", Roboto, "Liberation Sans", Arial, sans-serif';
  context.textBaseline = "middle";
  context.lineJoin = "round";
  context.lineWidth = 3.5;
  context.strokeStyle = "rgba(4, 7, 12, 0.85)";
  context.fillStyle = "#f2f5f9";
  for (const { look, places } of labels) {
    const name = look.name.length > 24 ? `${look.name.slice(0, 23)}…` : look.name;
    for (let i = 0; i < places.length; i += 2) {
      const x = places[i] + radius + 5;
      context.strokeText(name, x, places[i + 1]);
      context.fillText(name, x, places[i + 1]);
    }
  }
}

/**
 * @param {CanvasRenderingContext2D} context @param {Viewport} view @param {Sites} sites
 * @param {number} i @param {number} radius
 */
function drawSelection(context, view, sites, i, radius) {
  const [x, y] = view.toScreen(sites.row(i), sites.column(i));
  const path = new Path2D();
  for (let quarter = 0; quarter < 4; quarter++) {
    const angle = (quarter * FULL) / 4;
    const [dx, dy] = [Math.cos(angle), Math.sin(angle)];
    path.moveTo(x + dx * (radius + 4), y + dy * (radius + 4));
    path.lineTo(x + dx * (radius + 13), y + dy * (radius + 13));
  }
  context.strokeStyle = HALO;
  context.lineWidth = 4;
  context.stroke(path);
  context.strokeStyle = "#ffffff";
  context.lineWidth = 1.75;
  context.stroke(path);
}
