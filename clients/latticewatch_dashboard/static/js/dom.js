/** Elements, built and updated without ever parsing text as markup: class names come from users. */

/**
 * A new element. Keys of `attributes` are attribute names; `text` sets its text.
 * @param {string} tag
 * @param {Record<string, string | number | boolean>} [attributes]
 * @param {...(Node | null)} children
 * @returns {HTMLElement}
 */
export function element(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name === "text") node.textContent = String(value);
    else if (value === true) node.setAttribute(name, "");
    else if (value !== false) node.setAttribute(name, String(value));
  }
  node.append(...children.filter((child) => child !== null));
  return node;
}

/**
 * The element with this id; the page is broken without it, so its absence is an error.
 * @param {string} id
 * @returns {any}
 */
export function byId(id) {
  const node = document.getElementById(id);
  if (!node) throw new Error(`the page has no element #${id}`);
  return node;
}

/**
 * Set an element's text, touching the document only where it changes.
 * @param {Element} node
 * @param {string} text
 */
export function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

/** Set the text of the element with this id. @param {string} id @param {string} text */
export const say = (id, text) => setText(byId(id), text);

/** @param {string} id @param {string} type of event @param {(event: any) => void} act @param {AddEventListenerOptions} [options] */
export const on = (id, type, act, options) => byId(id).addEventListener(type, act, options);

/**
 * A canvas sized to its box in device pixels, its context scaled to CSS pixels and cleared.
 * @param {HTMLCanvasElement} canvas
 * @returns {{context: CanvasRenderingContext2D, width: number, height: number}}
 */
export function clearedCanvas(canvas) {
  const ratio = Math.min(window.devicePixelRatio || 1, 2);
  const width = canvas.clientWidth;
  const height = canvas.clientHeight;
  const context = /** @type {CanvasRenderingContext2D} */ (canvas.getContext("2d"));
  const columns = Math.round(width * ratio);
  const rows = Math.round(height * ratio);
  if (canvas.width !== columns || canvas.height !== rows) {
    canvas.width = columns;
    canvas.height = rows;
  }
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  context.clearRect(0, 0, width, height);
  return { context, width, height };
}
