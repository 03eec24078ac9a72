/** Wheel, drag, pinch, double click and keys on a view become zoom and pan. */

const WHEEL_STEP = 0.0016;
const PAN_STEP_PX = 60;

/**
 * @param {HTMLElement} target
 * @param {import("./live/viewport.js").Viewport} view
 * @param {() => void} changed called after the view has moved
 */
export function attachGestures(target, view, changed) {
  /** @type {Map<number, {x: number, y: number}>} */
  const fingers = new Map();

  const place = (event) => {
    const box = target.getBoundingClientRect();
    return { x: event.clientX - box.left, y: event.clientY - box.top };
  };

  target.addEventListener("wheel", (event) => {
    event.preventDefault();
    const { x, y } = place(event);
    const pixels = event.deltaMode === WheelEvent.DOM_DELTA_LINE ? 16 * event.deltaY : event.deltaY;
    view.zoom(Math.exp(-pixels * WHEEL_STEP), x, y);
    changed();
  }, { passive: false });

  target.addEventListener("pointerdown", (event) => {
    if (event.button !== 0) return;
    target.setPointerCapture(event.pointerId);
    fingers.set(event.pointerId, place(event));
    target.classList.add("dragging");
  });

  target.addEventListener("pointermove", (event) => {
    const before = fingers.get(event.pointerId);
    if (!before) return;
    const now = place(event);
    const other = [...fingers].find(([id]) => id !== event.pointerId)?.[1];
    if (other) {
      const ratio = Math.hypot(now.x - other.x, now.y - other.y) / Math.hypot(before.x - other.x, before.y - other.y);
      if (Number.isFinite(ratio) && ratio > 0) view.zoom(ratio, (now.x + other.x) / 2, (now.y + other.y) / 2);
      view.pan((now.x - before.x) / 2, (now.y - before.y) / 2);
    } else {
      view.pan(now.x - before.x, now.y - before.y);
    }
    fingers.set(event.pointerId, now);
    changed();
  });

  for (const ending of /** @type {const} */ (["pointerup", "pointercancel"])) {
    target.addEventListener(ending, (event) => {
      fingers.delete(event.pointerId);
      if (!fingers.size) target.classList.remove("dragging");
    });
  }

  target.addEventListener("dblclick", () => {
    view.fit();
    changed();
  });

  /** @type {Record<string, () => void>} */
  const keys = {
    "+": () => view.zoom(1.3),
    "=": () => view.zoom(1.3),
    "-": () => view.zoom(1 / 1.3),
    "0": () => view.fit(),
    ArrowLeft: () => view.pan(PAN_STEP_PX, 0),
    ArrowRight: () => view.pan(-PAN_STEP_PX, 0),
    ArrowUp: () => view.pan(0, PAN_STEP_PX),
    ArrowDown: () => view.pan(0, -PAN_STEP_PX),
  };
  target.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || !Object.hasOwn(keys, event.key)) return;
    event.preventDefault();
    keys[event.key]();
    changed();
  });
}
