/** The sign of a class as a small drawing, the same as in the frame. */

import { outline } from "./live/marks.js";

const SVG = "http://www.w3.org/2000/svg";

/**
 * @param {string} shape @param {string} colour @param {boolean} [dashed]
 * @returns {SVGSVGElement}
 */
export function sign(shape, colour, dashed = false) {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("viewBox", "-8 -8 16 16");
  svg.setAttribute("class", "sign");
  svg.setAttribute("aria-hidden", "true");
  const points = outline(shape);
  const mark = document.createElementNS(SVG, points ? "polygon" : "circle");
  if (points) mark.setAttribute("points", points.map(([x, y]) => `${(5.2 * x).toFixed(2)},${(5.2 * y).toFixed(2)}`).join(" "));
  else mark.setAttribute("r", shape === "dot" ? "3.2" : "5.4");
  mark.setAttribute("fill", shape === "dot" ? colour : "none");
  mark.setAttribute("stroke", colour);
  mark.setAttribute("stroke-width", shape === "dot" ? "0" : "2");
  mark.setAttribute("stroke-linejoin", "round");
  if (dashed) mark.setAttribute("stroke-dasharray", "4.2 2.6");
  svg.append(mark);
  return svg;
}
