// @ts-check
/** Sliders for the grey levels of the picture: display only, what is analysed does not change. */

import { byId, setText } from "./dom.js";

const PLAIN = { black: 0, white: 100, gamma: 1 };

/** @param {(black: number, white: number, gamma: number) => void} changed levels 0 to 255 */
export function attachContrast(changed) {
  const [black, white, gamma] = [byId("contrast-black"), byId("contrast-white"), byId("contrast-gamma")];

  const apply = () => {
    // The levels may not meet, or the picture would be a threshold.
    if (Number(white.value) - Number(black.value) < 5) {
      if (document.activeElement === white) black.value = String(Number(white.value) - 5);
      else white.value = String(Number(black.value) + 5);
    }
    setText(byId("contrast-black-value"), `${black.value} %`);
    setText(byId("contrast-white-value"), `${white.value} %`);
    setText(byId("contrast-gamma-value"), Number(gamma.value).toFixed(2));
    changed(2.55 * Number(black.value), 2.55 * Number(white.value), Number(gamma.value));
  };

  for (const slider of [black, white, gamma]) slider.addEventListener("input", apply);
  byId("contrast-reset").addEventListener("click", () => {
    black.value = String(PLAIN.black);
    white.value = String(PLAIN.white);
    gamma.value = String(PLAIN.gamma);
    apply();
  });

  const menu = byId("contrast");
  menu.addEventListener("keydown", (/** @type {KeyboardEvent} */ event) => {
    if (event.key !== "Escape") return;
    menu.open = false;
    menu.querySelector("summary").focus();
  });
  document.addEventListener("pointerdown", (event) => {
    if (menu.open && !menu.contains(/** @type {Node} */ (event.target))) menu.open = false;
  });
}
