/** The newest events, newest first; a bounded list that holds still while somebody points at it. */

import { byId, element, setText } from "./dom.js";
import { Comings, describe } from "./event-text.js";
import { clock } from "./format.js";
import { sign } from "./sign.js";
import { readable } from "./timeline.js";
import { events as words } from "./words.js";
/** @import {ServiceEvent} from "./types.d.ts" */

const MAX_ROWS = 150;
const FLUSH_MS = 500;  // rows that come faster are not read

export class EventList {
  /**
   * @param {{lookOf: (classId: number) => {colour: string, shape: string} | undefined,
   *          chosen: (event: ServiceEvent, coming: string) => void, pointed: (event: ServiceEvent | null) => void}} handlers
   */
  constructor({ lookOf, chosen, pointed }) {
    this.list = byId("events");
    this.held = byId("events-held");
    this.lookOf = lookOf;
    this.comings = new Comings();
    this.chosen = chosen;
    this.pointed = pointed;
    /** Those that are shown, newest first. @type {{event: ServiceEvent, row: HTMLElement}[]} */
    this.rows = [];
    /** @type {ServiceEvent[]} oldest first, not shown yet */
    this.waiting = [];
    this.pending = 0;
    /** @type {((event: ServiceEvent) => boolean) | null} what is pointed at elsewhere: rows that come are of it, too */
    this.wanted = null;
    for (const type of ["pointerleave", "focusout"]) this.list.addEventListener(type, () => this.schedule());
  }

  /** @param {ServiceEvent} event */
  add(event) {
    this.waiting.push(event);
    if (this.waiting.length > MAX_ROWS) this.waiting.shift();
    this.schedule();
  }

  clear() {
    this.waiting = [];
    this.list.replaceChildren();
    this.rows = [];
    byId("no-events").hidden = false;
  }

  /** Signs for the rows that came before the classes. */
  sign() {
    for (const gap of this.list.querySelectorAll("[data-sign-of]")) {
      const look = this.lookOf(Number(gap.getAttribute("data-sign-of") || NaN));
      if (look) gap.replaceWith(sign(look.shape, readable(look.colour)));
    }
  }

  schedule() {
    // A timer, not an animation frame: a hidden page must not pile up work for its return.
    if (!this.pending) this.pending = window.setTimeout(() => this.flush(), this.list.childElementCount ? FLUSH_MS : 50);
  }

  get isHeld() {
    return this.list.matches(":hover") || this.list.contains(document.activeElement);
  }

  flush() {
    this.pending = 0;
    const holding = this.isHeld && this.list.childElementCount > 0;
    setText(this.held, holding && this.waiting.length ? words.held(this.waiting.length) : "");
    if (holding || !this.waiting.length) return;
    const added = this.waiting.map((event) => ({ event, row: this.row(event) })).reverse();  // in order: one explains the next
    this.list.prepend(...added.map(({ row }) => row));
    this.waiting = [];
    this.rows.unshift(...added);
    for (const { event, row } of added) row.classList.toggle("lit", this.wanted?.(event) ?? false);
    for (const { row } of this.rows.splice(MAX_ROWS)) row.remove();
    byId("no-events").hidden = true;
  }

  /**
   * Light up what belongs to something that is pointed at elsewhere.
   * @param {((event: ServiceEvent) => boolean) | null} wanted
   * @returns {ServiceEvent | undefined} the newest of them
   */
  light(wanted) {
    this.wanted = wanted;
    const found = wanted ? this.rows.filter(({ event }) => wanted(event)) : [];
    for (const row of this.list.querySelectorAll(".lit")) row.classList.remove("lit");
    for (const { row } of found) row.classList.add("lit");
    const scroll = this.list.parentElement;
    if (scroll && !this.isHeld) scroll.scrollTop = found.length ? found[0].row.offsetTop - this.list.offsetTop - 40 : 0;
    return found[0]?.event;
  }

  /** @param {ServiceEvent} event @returns {HTMLElement} */
  row(event) {
    const coming = this.comings.of(event);
    const { title, facts } = describe(event, coming);
    const { px, class_id: classId } = event.data;
    const look = classId === undefined ? undefined : this.lookOf(classId);
    const mark = look ? sign(look.shape, readable(look.colour)) : element("span", { "data-sign-of": classId ?? "" });
    const [first, ...others] = facts;
    const content = [
      mark,
      element(
        "span",
        { class: "event-text" },
        element("span", { class: "event-title", text: title }),
        ...(first ? [document.createTextNode(" · "), element("span", { class: "event-fact", text: first })] : []),
      ),
      element("time", { datetime: event.time, text: clock(event.time) }),
      element("span", { class: "event-facts", text: others.join(" · ") }),
    ];
    const row = element("li", { class: "event", "data-seq": event.seq, "data-kind": event.type });
    if (coming !== "appeared") row.classList.add("quiet");
    row.addEventListener("pointerenter", () => this.pointed(event));
    row.addEventListener("pointerleave", () => this.pointed(null));
    row.dataset.coming = event.type === "defect.appeared" ? coming : "";
    if (px) {
      const button = element("button", { title: words.show }, ...content);
      button.addEventListener("click", () => {
        for (const other of this.list.querySelectorAll(".chosen")) other.classList.remove("chosen");
        row.classList.add("chosen");
        this.chosen(event, coming);
      });
      row.append(button);
    } else {
      row.append(element("div", {}, ...content));
    }
    return row;
  }
}
