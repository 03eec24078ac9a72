/** The frame fills its box: the room beside it is measured, not guessed, so that there are no black bars. */

import { byId } from "./dom.js";

const LEAST_SIDE_REM = 26;  // of the panels beside the frame
const TIMELINE_REM = 13;  // as in the style sheet
const TWO_COLUMNS_REM = 46;
const PHONE = "(max-width: 820px)";
const NARROWEST = 0.6;  // an extreme shape gets bars rather than no room for anything else
const WIDEST = 2.2;

export class Layout {
  constructor() {
    this.main = byId("main");
    this.aspect = 1;
    const watch = new ResizeObserver(() => this.settle());
    watch.observe(this.main);
    watch.observe(/** @type {Element} */ (document.querySelector(".toolbar")));
    window.matchMedia(PHONE).addEventListener("change", () => this.settle());
    for (const tab of document.querySelectorAll('[role="tab"]')) {
      tab.addEventListener("click", () => this.open(tab.id.replace("tab-", "")));
      tab.addEventListener("keydown", (event) => {
        const key = /** @type {KeyboardEvent} */ (event).key;
        if (key !== "ArrowRight" && key !== "ArrowLeft") return;
        const tabs = /** @type {HTMLElement[]} */ ([...document.querySelectorAll('[role="tab"]')]);
        const next = tabs[(tabs.indexOf(/** @type {HTMLElement} */ (tab)) + (key === "ArrowRight" ? 1 : tabs.length - 1)) % tabs.length];
        next.focus();
        next.click();
      });
    }
    this.open("classes");
  }

  /** @param {number} rows @param {number} columns of the frame */
  setShape(rows, columns) {
    const aspect = Math.min(WIDEST, Math.max(NARROWEST, columns / rows));
    if (aspect === this.aspect) return;
    this.aspect = aspect;
    this.settle();
  }

  settle() {
    const { main } = this;
    const rem = parseFloat(getComputedStyle(document.documentElement).fontSize);
    const phone = window.matchMedia(PHONE).matches;
    const gap = 0.7 * rem;
    const style = getComputedStyle(main);
    const width = main.clientWidth - parseFloat(style.paddingLeft) - parseFloat(style.paddingRight);
    const height = main.clientHeight - parseFloat(style.paddingTop) - parseFloat(style.paddingBottom);
    const stage = byId("stage");
    const around = stage.closest(".panel").offsetHeight - stage.offsetHeight;  // toolbar, caption, borders
    if (phone) {
      main.dataset.columns = "1";
      main.style.removeProperty("--left");
      main.style.setProperty("--stage-height", `${Math.round((width - 2) / this.aspect)}px`);
      return;
    }
    const wall = document.documentElement.dataset.wall !== undefined;
    const most = height - around - (wall ? 0 : gap + TIMELINE_REM * rem);
    const left = Math.max(280, Math.min(width - gap - LEAST_SIDE_REM * rem, most * this.aspect + 2));
    main.style.setProperty("--left", `${Math.floor(left)}px`);
    main.style.setProperty("--stage-height", `${Math.floor(Math.min(most, (left - 2) / this.aspect))}px`);
    main.dataset.columns = width - gap - left >= TWO_COLUMNS_REM * rem ? "2" : "1";
  }

  /** Show one of the panels where there is room for one only. @param {string} name */
  open(name) {
    for (const tab of document.querySelectorAll('[role="tab"]')) {
      const chosen = tab.id === `tab-${name}`;
      tab.setAttribute("aria-selected", String(chosen));
      tab.setAttribute("tabindex", chosen ? "0" : "-1");
      byId(/** @type {string} */ (tab.getAttribute("aria-controls"))).classList.toggle("chosen", chosen);
    }
  }
}
