// @ts-check
/** A card for each class: average patch, name to change, role, count with its course, separation from the host. */

import { ApiError, getBlob, patchJson } from "./access.js";
import { drawSparkline } from "./counts-chart.js";
import { byId, element, setText } from "./dom.js";
import { fixed, integer, percent } from "./format.js";

const ROLE_ORDER = ["defect", "neighbour", "unknown", "host"];
const AVERAGE_MAX_AGE_MS = 10_000;  // a class that follows slow change is looked at again, but not with every version

/**
 * @typedef {import("./live-message.js").ClassSummary} ClassSummary
 * @typedef {{summary: ClassSummary, root: HTMLElement, image: HTMLImageElement, name: HTMLButtonElement,
 *   role: HTMLElement, meta: HTMLElement, count: HTMLElement, spark: HTMLCanvasElement, error: HTMLElement,
 *   fetched: number, version: number, address: string}} Card
 */
export class ClassCards {
  /**
   * @param {{emphasised: (classId: number | null) => void, renamed: (classId: number, name: string) => void}} handlers
   */
  constructor({ emphasised, renamed }) {
    this.list = byId("classes");
    this.emphasised = emphasised;
    this.renamed = renamed;
    /** @type {Map<number, Card>} */
    this.cards = new Map();
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
    const rank = (/** @type {ClassSummary} */ one) => ROLE_ORDER.indexOf(one.role);
    const sorted = [...classes].sort((a, b) => rank(a) - rank(b) || b.total - a.total || a.class_id - b.class_id);
    sorted.forEach((summary, index) => {
      const card = this.cards.get(summary.class_id) ?? this.create(summary);
      card.summary = summary;
      this.write(card);
      if (this.list.children[index] !== card.root && !card.root.contains(document.activeElement)) {
        this.list.insertBefore(card.root, this.list.children[index] ?? null);
      }
      void this.refreshAverage(card, version);
    });
    byId("no-classes").hidden = classes.length > 0;
  }

  /** @param {ClassSummary} summary @returns {Card} */
  create(summary) {
    const id = summary.class_id;
    const image = /** @type {HTMLImageElement} */ (element("img", { class: "patch", width: 54, height: 54, alt: "" }));
    const name = /** @type {HTMLButtonElement} */ (element("button", { class: "class-name", type: "button" }));
    const role = element("span", { class: "chip" });
    const meta = element("span", { class: "class-meta" });
    const count = element("span", { class: "class-count", "data-count": id });
    const spark = /** @type {HTMLCanvasElement} */ (element("canvas", { class: "spark", "aria-hidden": "true" }));
    const error = element("p", { class: "class-error", role: "alert", hidden: true });
    const root = element(
      "li",
      { class: "class-card", "data-class-id": id },
      element("div", { class: "patch-box" }, image),
      element("div", { class: "class-text" }, name, element("div", { class: "class-line" }, role, meta)),
      element("div", { class: "class-numbers" }, count, element("span", { class: "unit", text: "in frame" })),
      spark,
      error,
    );
    const card = { summary, root, image, name, role, meta, count, spark, error, fetched: -Infinity, version: -1, address: "" };
    name.addEventListener("click", () => this.edit(card));
    for (const start of ["pointerenter", "focusin"]) root.addEventListener(start, () => this.emphasised(id));
    for (const end of ["pointerleave", "focusout"]) root.addEventListener(end, () => this.emphasised(null));
    this.cards.set(id, card);
    this.list.append(root);
    return card;
  }

  /** @param {Card} card */
  write({ summary, root, image, name, role, meta }) {
    setText(name, summary.name);
    name.setAttribute("aria-label", `${summary.name}: change the name`);
    name.title = `${summary.name}: click to change the name`;
    root.style.setProperty("--class-colour", summary.colour);
    setText(role, summary.role);
    role.dataset.role = summary.role;
    image.alt = `Average patch of class ${summary.name}`;
    const parts = [summary.separation === null ? "reference" : `d′ ${fixed(summary.separation, 1)} σ`];
    if (summary.template !== null) parts.push(`like ${summary.template} ${percent(summary.score)}`);
    else if (summary.score !== null) parts.push("like no simulated class");
    parts.push(`${integer(summary.total)} seen`);
    setText(meta, parts.join(" · "));
    meta.title =
      "d′: distance of the class from the host of its sublattice, in standard deviations of the noise. " +
      "Seen: sites of this class in all frames since learning." +
      (summary.score === null ? "" : " Like: share of its difference from the host that the simulated class explains.") +
      (summary.runner_up === null ? "" : ` Next: ${summary.runner_up[0]} ${percent(summary.runner_up[1])}.`);
  }

  /** @param {Map<number, number>} counts by class @param {import("./history.js").CountHistory} history */
  updateCounts(counts, history) {
    for (const [id, card] of this.cards) {
      setText(card.count, integer(counts.get(id) ?? 0));
      drawSparkline(card.spark, history, id, card.summary.colour);
    }
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
      element("input", { class: "class-field", maxlength: 64, "aria-label": `New name of class ${card.summary.name}` })
    );
    field.value = card.summary.name;
    card.error.hidden = true;
    let open = true;
    const close = (/** @type {boolean} */ keep) => {
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
      this.renamed(before.class_id, name);
    } catch (error) {
      card.summary = before;
      this.write(card);
      const reason = error instanceof ApiError ? error.message : "the service could not be reached";
      setText(card.error, `Not renamed: ${reason}`);
      card.error.hidden = false;
    }
  }
}
