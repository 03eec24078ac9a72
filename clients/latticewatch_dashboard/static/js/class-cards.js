/** A card for each class: average patch, name to change, role, count with its course, separation from the host. */

import { ApiError, getBlob, patchJson } from "./access.js";
import { confirmed } from "./dialogs.js";
import { byId, element, say, setText } from "./dom.js";
import { integer } from "./format.js";
import { sign } from "./sign.js";
import { drawSparkline } from "./sparkline.js";
import { readable } from "./timeline.js";
import { access, classes as words } from "./words.js";
/** @import {Card, ClassSummary} from "./types.d.ts" */

const ROLE_ORDER = ["defect", "neighbour", "unknown", "host"];
const AVERAGE_MAX_AGE_MS = 10_000;  // a class that follows slow change is looked at again, but not with every version

export class ClassCards {
  /**
   * @param {{emphasised: (classId: number | null) => void, chosen: (classId: number | null) => void,
   *          hidden: (classIds: Set<number>) => void, renamed: (classId: number, name: string) => void}} handlers
   */
  constructor({ emphasised, chosen, hidden, renamed }) {
    this.lists = { host: byId("classes-host"), neighbour: byId("classes-neighbour"), other: byId("classes") };
    this.emphasised = emphasised;
    this.chosen = chosen;
    this.hidden = hidden;
    this.renamed = renamed;
    this.mayEdit = true;
    /** @type {Map<number, Card>} */
    this.cards = new Map();
    /** @type {number | null} */
    this.choice = null;
    /** @type {Set<number>} */
    this.off = new Set();
    /** The last edit, as what takes it back. @type {{id: number, change: object} | null} */
    this.undo = null;
    /** A class that was split off, till it comes with the catalogue. @type {number | null} */
    this.awaited = null;
  }

  /**
   * Take in a catalogue. Cards are kept, so that a name being typed survives.
   * @param {ClassSummary[]} classes @param {number} version of the model
   */
  update(classes, version) {
    const present = new Set(classes.map(({ class_id: id }) => id));
    for (const [id, card] of this.cards) {
      if (present.has(id)) continue;
      URL.revokeObjectURL(card.address);
      card.root.remove();
      this.cards.delete(id);
    }
    const rank = (one) => ROLE_ORDER.indexOf(one.role);
    const sorted = [...classes].sort((a, b) => rank(a) - rank(b) || b.total - a.total || a.class_id - b.class_id);
    const next = { host: 0, neighbour: 0, other: 0 };
    for (const summary of sorted) {
      const card = this.cards.get(summary.class_id) ?? this.create(summary);
      const where = summary.role === "host" || summary.role === "neighbour" ? summary.role : "other";
      const list = this.lists[where];
      card.summary = summary;
      this.write(card);
      const index = next[where]++;
      if (list.children[index] !== card.root && !card.root.querySelector(".class-field")) {
        list.insertBefore(card.root, list.children[index] ?? null);
      }
      void this.refreshAverage(card, version);
    }
    byId("neighbour-classes").hidden = !next.neighbour;
    if (this.awaited !== null && present.has(this.awaited)) {
      this.choose(this.awaited);
      this.awaited = null;
    }
    if (this.choice !== null) this.choose(present.has(this.choice) ? this.choice : null);
    byId("no-classes").hidden = classes.length > 0;
  }

  /** @param {ClassSummary} summary @returns {Card} */
  create(summary) {
    const id = summary.class_id;
    const image = /** @type {HTMLImageElement} */ (element("img", { class: "patch", width: 54, height: 54, alt: "" }));
    const name = /** @type {HTMLButtonElement} */ (element("button", { class: "class-name" }));
    const role = element("span", { class: "chip" });
    const meta = element("span", { class: "class-meta" });
    const title = element("div", { class: "class-title" }, name);
    const actions = element("div", { class: "class-actions" });
    const count = element("span", { class: "class-count", "data-count": id });
    const spark = /** @type {HTMLCanvasElement} */ (element("canvas", { class: "spark", "aria-hidden": "true" }));
    const error = element("p", { class: "class-error", role: "alert", hidden: true });
    const root = element(
      "li",
      { class: "class-card", "data-class-id": id },
      element("div", { class: "patch-box" }, image),
      element("div", { class: "class-text" }, title, element("div", { class: "class-line" }, role, meta)),
      element("div", { class: "class-numbers" }, count, element("span", { class: "unit", text: words.inFrame })),
      spark,
      actions,
      error,
    );
    const card = { summary, root, image, name, role, meta, title, actions, count, spark, error, fetched: -Infinity, version: -1, address: "" };
    name.addEventListener("click", () => {
      if (this.mayEdit) this.edit(card);
    });
    root.addEventListener("click", (event) => {
      if (!(/** @type {Element} */ (event.target).closest("button, input, select"))) this.choose(this.choice === id ? null : id);
    });
    for (const start of ["pointerenter", "focusin"]) root.addEventListener(start, () => this.emphasised(id));
    for (const end of ["pointerleave", "focusout"]) root.addEventListener(end, () => this.emphasised(null));
    this.cards.set(id, card);
    return card;
  }

  /** Choose a class, or none: it stands out everywhere, and what can be done with it is offered. @param {number | null} id */
  choose(id) {
    const changed = id !== this.choice;
    this.choice = id;
    for (const [one, card] of this.cards) {
      card.root.classList.toggle("chosen", one === id);
      if (one === id) this.writeActions(card);
      else card.actions.replaceChildren();
    }
    if (changed) this.chosen(id);
  }

  /** @param {Card} card */
  writeActions(card) {
    const { class_id: id, role, name } = card.summary;
    // A list that somebody has open is not replaced under their hands.
    if (card.actions.contains(document.activeElement)) return;
    const off = this.off.has(id);
    const hide = element("button", { text: off ? words.show : words.hide });
    hide.addEventListener("click", () => {
      if (off) this.off.delete(id);
      else this.off.add(id);
      card.root.classList.toggle("off", !off);
      this.hidden(this.off);
      hide.blur();
      this.writeActions(card);
    });
    /** @type {Node[]} */
    const items = [hide];
    if (this.mayEdit) {
      const roles = element("select", { "aria-label": words.roleOf(name) });
      for (const one of ["defect", "neighbour", "host"]) {
        const option = element("option", { value: one, text: words.isA(one) });
        if (one === role) option.setAttribute("selected", "");
        roles.append(option);
      }
      roles.addEventListener("change", () => void this.change(card, { role: /** @type {any} */ (roles).value }, { role }, words.failed.role));
      const others = element("select", { "aria-label": words.mergeOf(name) });
      others.append(element("option", { value: "", text: words.mergeInto }));
      for (const other of this.cards.values()) {
        if (other !== card) others.append(element("option", { value: other.summary.class_id, text: other.summary.name }));
      }
      others.addEventListener("change", () => void this.merge(card, Number(/** @type {any} */ (others).value)));
      items.push(roles, others);
      if (this.undo) {
        const undo = element("button", { text: words.undo });
        undo.addEventListener("click", () => void this.takeBack());
        items.push(undo);
      }
    }
    card.actions.replaceChildren(...items);
  }

  /** @param {Card} card @param {number} into */
  async merge(card, into) {
    const other = this.cards.get(into);
    if (!other) return;
    const sure = await confirmed(words.mergeTitle, words.mergeAsk([card.summary.name], other.summary.name));
    if (sure) await this.change(other, { merge: [card.summary.class_id] }, null, words.failed.merge);
  }

  /**
   * @param {Card} card @param {object} change @param {object | null} back what takes it back, if anything does
   * @param {string} failure
   */
  async change(card, change, back, failure) {
    card.error.hidden = true;
    try {
      await patchJson(`v1/classes/${card.summary.class_id}`, change);
      this.undo = back && { id: card.summary.class_id, change: back };
      // the answer may come after the new catalogue: what can be taken back is offered now
      const at = document.activeElement;
      if (at instanceof HTMLElement && card.actions.contains(at)) at.blur();
      const chosen = this.choice === null ? undefined : this.cards.get(this.choice);
      if (chosen) this.writeActions(chosen);
    } catch (error) {
      setText(card.error, `${failure}: ${error instanceof ApiError ? error.message : access.unreachable}`);
      card.error.hidden = false;
    }
  }

  async takeBack() {
    const { undo } = this;
    const card = undo && this.cards.get(undo.id);
    this.undo = null;
    if (card) await this.change(card, undo.change, null, words.failed.undo);
    if (this.choice !== null) this.choose(this.choice);
  }

  /** Whether the key of this page may change anything. @param {boolean} mayEdit */
  setMayEdit(mayEdit) {
    if (mayEdit === this.mayEdit) return;
    this.mayEdit = mayEdit;
    for (const card of this.cards.values()) this.write(card);
  }

  /** @param {Card} card */
  write({ summary, root, image, name, role, meta, title }) {
    setText(name, summary.name);
    if (this.mayEdit) {
      name.setAttribute("aria-label", words.changeOf(summary.name));
      name.title = words.clickToChange(summary.name);
    } else {
      name.setAttribute("aria-label", summary.name);
      name.title = summary.name;
    }
    name.disabled = !this.mayEdit;
    const drawn = `${summary.shape}${summary.colour}`;
    if (title.dataset.sign !== drawn) {
      title.dataset.sign = drawn;
      title.querySelector("svg")?.remove();
      title.prepend(sign(summary.shape, readable(summary.colour)));
    }
    root.style.setProperty("--class-colour", summary.colour);
    setText(role, summary.role);
    role.dataset.role = summary.role;
    image.alt = words.average(summary.name);
    const parts = [summary.separation === null ? words.reference : words.separation(summary.separation)];
    if (summary.template !== null) parts.push(words.like(summary.template, summary.score));
    else if (summary.score !== null) parts.push(words.unlike);
    setText(meta, parts.join(" · "));
    meta.title = [
      words.meaning, words.seen(summary.total), summary.score === null ? "" : words.likeMeaning,
      summary.runner_up === null ? "" : words.next(...summary.runner_up),
    ].filter(Boolean).join(" ");
  }

  /** @param {Map<number, number>} counts by class @param {import("./history.js").CountHistory} history */
  updateCounts(counts, history) {
    let neighbours = 0;
    for (const [id, card] of this.cards) {
      setText(card.count, integer(counts.get(id) ?? 0));
      if (card.summary.role === "neighbour") neighbours += counts.get(id) ?? 0;
      else drawSparkline(card.spark, history, id, card.summary.colour);
    }
    say("neighbour-total", integer(neighbours));
  }

  /** @param {Card} card @param {number} version */
  async refreshAverage(card, version) {
    if (version === card.version || performance.now() - card.fetched < AVERAGE_MAX_AGE_MS) return;
    card.fetched = performance.now();
    try {
      // As small as it comes: the browser enlarges it smoothly.
      const blob = await getBlob(`v1/classes/${card.summary.class_id}/average.png?size=16`);
      URL.revokeObjectURL(card.address);
      card.address = URL.createObjectURL(blob);
      card.image.src = card.address;
      card.version = version;
    } catch {
      // merged away meanwhile, or unreachable: the next catalogue tries again
      card.fetched = -Infinity;
    }
  }

  /** Put a field where the name is. @param {Card} card */
  edit(card) {
    const field = /** @type {HTMLInputElement} */ (
      element("input", { class: "class-field", maxlength: 64, "aria-label": words.newName(card.summary.name) })
    );
    field.value = card.summary.name;
    card.error.hidden = true;
    let open = true;
    const close = (keep) => {
      if (!open) return;
      open = false;
      const name = field.value.trim();
      const hadFocus = document.activeElement === field;
      field.replaceWith(card.name);
      if (hadFocus) card.name.focus();
      if (keep && name && name !== card.summary.name) void this.rename(card, name);
    };
    field.addEventListener("keydown", (event) => {
      if (event.key !== "Enter" && event.key !== "Escape") return;
      event.preventDefault();  // or the key would press the button that comes back, and open the field again
      close(event.key === "Enter");
    });
    field.addEventListener("blur", () => close(true));
    card.name.replaceWith(field);
    field.focus();
    field.select();
  }

  /** @param {Card} card @param {string} name */
  async rename(card, name) {
    const before = card.summary;
    card.summary = { ...before, name };
    this.write(card);
    try {
      await patchJson(`v1/classes/${before.class_id}`, { name });
      this.undo = { id: before.class_id, change: { name: before.name } };
      this.renamed(before.class_id, name);
    } catch (error) {
      card.summary = before;
      this.write(card);
      const reason = error instanceof ApiError ? error.message : access.unreachable;
      setText(card.error, `${words.failed.name}: ${reason}`);
      card.error.hidden = false;
    }
  }
}
