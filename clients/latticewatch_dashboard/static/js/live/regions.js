/** Where nothing is looked for, hatched over the picture: dirt one way, what is no specimen the other. */

/** @import {Frame, Section} from "../types.d.ts" */

const STEP = 9;  // between the lines of a hatching [CSS px]
const LOOKS = /** @type {Record<string, {colour: string, rising: boolean}>} */ ({
  "dirt": { colour: "#f5b84a", rising: true },
  "no-specimen": { colour: "#93a0b3", rising: false },
});
const OTHER = { colour: "#c49bff", rising: true };

/** @type {Map<string, CanvasPattern>} */
const patterns = new Map();
/** Outlines of the regions of a frame: it is painted again whenever the view moves. @type {WeakMap<Section, OffscreenCanvas[]>} */
const outlines = new WeakMap();
const layer = new OffscreenCanvas(1, 1);

/** Parallel lines over a tint. @param {OffscreenCanvasRenderingContext2D} context @param {{colour: string, rising: boolean}} look */
function hatching(context, look) {
  let found = patterns.get(look.colour);
  if (!found) {
    const tile = new OffscreenCanvas(STEP, STEP);
    const pen = /** @type {OffscreenCanvasRenderingContext2D} */ (tile.getContext("2d"));
    pen.fillStyle = `${look.colour}3a`;
    pen.fillRect(0, 0, STEP, STEP);
    pen.strokeStyle = `${look.colour}d0`;
    pen.lineWidth = 1.3;
    for (const x of [-STEP, 0, STEP]) {
      pen.moveTo(x, look.rising ? STEP : 0);
      pen.lineTo(x + STEP, look.rising ? 0 : STEP);
    }
    pen.stroke();
    found = /** @type {CanvasPattern} */ (context.createPattern(tile, "repeat"));
    patterns.set(look.colour, found);
  }
  return found;
}

/** The outline of a region, its blocks made smooth. @param {Uint8Array} numbers @param {number} wanted @param {number} columns */
function shape(numbers, wanted, columns) {
  const canvas = new OffscreenCanvas(columns, numbers.length / columns);
  const pen = /** @type {OffscreenCanvasRenderingContext2D} */ (canvas.getContext("2d"));
  const image = pen.createImageData(canvas.width, canvas.height);
  new Uint32Array(image.data.buffer).set(Uint32Array.from(numbers, (one) => (one === wanted ? 0xff000000 : 0)));
  pen.putImageData(image, 0, 0);
  return canvas;
}

/**
 * @param {OffscreenCanvasRenderingContext2D} context in CSS pixels
 * @param {import("./viewport.js").Viewport} view @param {Frame} frame
 */
export function drawRegions(context, view, { header: { regions = [], regions_scale: step = 1 }, arrays: { regions: section } }) {
  if (!section) return;
  const [rows, columns] = section.shape;
  const shapes = outlines.get(section) ?? regions.map((_, i) => shape(/** @type {Uint8Array} */ (section.data), i + 1, columns));
  outlines.set(section, shapes);
  regions.forEach((kind, i) => {
    Object.assign(layer, { width: Math.ceil(view.width), height: Math.ceil(view.height) });  // cleared by this, too
    const pen = /** @type {OffscreenCanvasRenderingContext2D} */ (layer.getContext("2d"));
    const scale = view.scale * step;
    pen.drawImage(shapes[i], view.x0, view.y0, columns * scale, rows * scale);
    pen.globalCompositeOperation = "source-in";
    pen.fillStyle = hatching(context, LOOKS[kind] ?? OTHER);
    pen.fillRect(0, 0, layer.width, layer.height);
    context.drawImage(layer, 0, 0);
  });
}

/** Share of the frame that each region covers. @param {Frame} frame @returns {Map<string, number>} */
export function shares({ header: { regions = [] }, arrays: { regions: section } }) {
  const covered = new Uint32Array(regions.length + 1);
  for (const one of section?.data ?? []) covered[one]++;
  return new Map(regions.map((kind, i) => [kind, section ? covered[i + 1] / section.data.length : 0]));
}
