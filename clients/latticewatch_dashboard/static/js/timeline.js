/** Defects over time: a line for each class, broken where a series, a model or the stream breaks; click to look back. */

import { getJson } from "./access.js";
import { Chart, lookOf } from "./chart.js";
import { byId, element, say, setText } from "./dom.js";
import { clock, fixed, scientific, significant } from "./format.js";
import { ratesOver } from "./rates.js";
import { time as words } from "./words.js";
/** @import {Boundary, ChartLine, ChartLook, Courses, Line} from "./types.d.ts" */

const GAP_S = 5;  // a longer pause between frames breaks the line
const GAP_STEPS = 4;  // and so does one of so many usual steps
const REFRESH_MS = 5000;
const POINTS = 400;
const MOST_MARKS = 400;
const LEAST_DRIFT_NM = 0.1;  // height of the strip of drift: less would show noise
/** Kinds of events whose rates are a chart; the second is dashed. Their lines have the keys -1 and -4, the intervals those below. */
const HAPPENINGS = /** @type {const} */ (["appeared", "disappeared"]);
const DASHES = [[], [5, 4]];
/**
 * Lines that do not join what does not belong together: a point without a value at each boundary and gap.
 * @param {Courses} courses @param {number[]} boundaries times [s]
 * @returns {Courses}
 */
export function broken({ times, counts }, boundaries) {
  const known = times.filter((time) => Number.isFinite(time));
  const steps = known.slice(1).map((time, i) => time - known[i]).sort((a, b) => a - b);
  const gap = Math.max(GAP_S, GAP_STEPS * (steps[steps.length >> 1] ?? 0));
  const sorted = [...boundaries].sort((a, b) => a - b);
  /** @type {number[]} */
  const out = [];
  /** @type {number[]} indices, -1 for a break */
  const from = [];
  let next = 0;
  let force = false;
  for (let i = 0; i < times.length; i++) {
    if (!Number.isFinite(times[i])) {
      force = true;
      continue;
    }
    const before = out[out.length - 1];
    while (next < sorted.length && sorted[next] <= times[i] && (before === undefined || sorted[next] <= before)) next++;
    const crossed = before !== undefined && next < sorted.length && sorted[next] <= times[i];
    if (before !== undefined && (force || crossed || times[i] - before > gap)) {
      out.push((before + times[i]) / 2);
      from.push(-1);
    }
    force = false;
    out.push(times[i]);
    from.push(i);
  }
  const lines = new Map([...counts].map(([id, values]) => [id, from.map((i) => (i < 0 ? null : values[i]))]));
  return { times: out, counts: lines };
}

export class Timeline {
  /** @param {{sought: (time: number) => void, pointed: (time: number | null) => void}} handlers */
  constructor({ sought, pointed }) {
    this.pointed = pointed;
    this.box = byId("counts-chart");
    this.chart = new Chart(this.box, { top: 1.3, bottom: 1.9 });
    this.strip = new Chart(byId("strip"), { top: 0.7, bottom: 0.4 });
    /** Draws the same again, in the room and the colours of now; and what is known now. */
    this.again = () => {};
    this.drawn = () => {};
    this.tip = element("div", { class: "chart-tip", hidden: true });
    this.box.parentElement?.append(this.tip);
    this.range = 60;
    this.kind = "count";
    /** @type {number | null} where the crosshair is: it stays there while the chart moves on */
    this.at = null;
    this.total = "";  // how many defects are in the newest frame
    /** @type {Line[]} */
    this.lines = [];
    /** @type {Boundary[]} */
    this.boundaries = [];
    /** @type {{time: number, classId: number | undefined}[]} */
    this.ticks = [];
    /** @type {any} */
    this.past = null;
    /** The class whose rates are wanted, or all, and what the service said of it. @type {{class_id: number, name: string} | null} */
    this.of = null;
    /** @type {any} */
    this.pastOf = null;
    this.areaNm2 = null;
    /** Time and drift x, y of the frames since the service was asked last. @type {[number, number, number][]} */
    this.moved = [];
    /** @type {number | null} time of the frame on the screen, where it is not the newest */
    this.seen = null;
    this.fetched = -Infinity;
    const time = (event) => this.chart.time(event.clientX - this.box.getBoundingClientRect().left);
    for (const box of [this.box, byId("strip")]) {
      box.addEventListener("click", (event) => {
        const at = time(event);
        if (at !== null) sought(at);
      });
      box.addEventListener("pointermove", (event) => this.look(time(event)));
      box.addEventListener("pointerleave", () => this.look(null));
    }
    new ResizeObserver(() => this.again()).observe(this.box);
  }

  /** @param {number} range seconds, 0 for all */
  setRange(range) {
    this.range = range;
    this.fetched = -Infinity;
    this.past = null;
  }

  /** Rates of one class, or of all; its line stands out. @param {{class_id: number, name: string} | null} one */
  setClass(one) {
    const same = one?.class_id === this.of?.class_id;
    this.of = one && { class_id: one.class_id, name: one.name };
    if (same) return;
    this.pastOf = null;
    this.fetched = -Infinity;
  }

  /** @param {string} kind "count", "density", "rate", or "=" and the name of a number of the headers */
  setKind(kind) {
    this.kind = kind;
    for (const one of document.querySelectorAll("[data-chart]")) {
      one.setAttribute("aria-pressed", String(/** @type {HTMLElement} */ (one).dataset.chart === kind));
    }
    this.offerScalars();
  }

  /** Name of the number of the headers that the chart shows, if it shows one. */
  get scalar() {
    return this.kind.startsWith("=") ? this.kind.slice(1) : null;
  }

  /** The numbers that there are, for choosing. */
  offerScalars() {
    const list = byId("chart-scalar");
    const names = [...new Set([...Object.keys(this.past?.scalars ?? {}), ...(this.scalar === null ? [] : [this.scalar])])];
    list.hidden = !names.length;
    const known = [...list.options].slice(1).map(({ text }) => text);
    if (names.join("\n") !== known.join("\n")) list.replaceChildren(list.options[0], ...names.map((name) => new Option(name, `=${name}`)));
    list.value = this.scalar === null ? "" : this.kind;
    list.setAttribute("aria-pressed", String(this.scalar !== null));
  }

  /** As far from the crosshair an event still belongs to it [s]. */
  get nearness() {
    return (6 * (this.chart.high - this.chart.low)) / this.box.clientWidth;
  }

  /** What the pointer is over, here: the other panels are told. @param {number | null} time */
  look(time) {
    this.point(time);
    this.pointed(time);
  }

  /** Put the crosshair where something is pointed at, or take it away. @param {number | null} time */
  point(time) {
    this.at = time;
    this.chart.point(time);
    this.strip.point(time);
    this.showTip(this.chart.line.hidden ? null : time);
  }

  /** @param {Boundary} boundary */
  mark(boundary) {
    this.boundaries.push(boundary);
    if (this.boundaries.length > 200) this.boundaries.shift();
  }

  /** @param {number} time @param {number | undefined} classId */
  tick(time, classId) {
    this.ticks.push({ time, classId });
    if (this.ticks.length > MOST_MARKS) this.ticks.shift();
  }

  /** @param {number} time [s] @param {[number, number] | null} drift x, y [nm] */
  drifted(time, drift) {
    if (!drift || time === this.moved.at(-1)?.[0]) return;
    this.moved.push([time, ...drift]);
    if (this.moved.length > MOST_MARKS) this.moved.shift();
  }

  /** Ask for statistics of the time that is shown, if the last are old. @param {number} now time of the newest frame [s] */
  async refresh(now) {
    if (performance.now() - this.fetched < REFRESH_MS) return;
    this.fetched = performance.now();
    const { range, of } = this;
    try {
      const path = `v1/history?points=${POINTS}${range ? `&since=${now - range}` : ""}`;
      const [past, own] = await Promise.all([getJson(path), of && getJson(`${path}&class_id=${of.class_id}`)]);
      if (range !== this.range || of?.class_id !== this.of?.class_id) return;
      this.past = past;
      this.pastOf = own;
      this.areaNm2 = past.area_nm2;
      this.offerScalars();
      this.writeRates(own ?? past);
      if (this.kind === "rate") this.drawn();
      else this.again();
    } catch {
      this.fetched = performance.now();  // what ails the connection is said elsewhere
    }
  }

  /** @param {any} past */
  writeRates({ rates, lifetimes, dose_e_per_a2: dose }) {
    const rate = (one) => {
      if (!one || one.per_minute == null) return "–";
      if (!one.n) return words.noneSeen;
      const scale = one.per_minute / one.n;
      return words.rate(one.per_minute, one.n_low * scale, one.n_high * scale);
    };
    say("rates-of", this.of?.name ?? "");
    byId("rates-of-row").hidden = !this.of;
    say("rate-appeared", rate(rates.appeared));
    say("rate-disappeared", rate(rates.disappeared));
    const { mean_s: mean, mean_low_s: low, mean_high_s: high, n_ended: ended } = lifetimes;
    say("rate-lifetime", mean == null ? words.notYet : words.lifetime(span(mean, mean), span(low, mean), span(high, mean), unitOf(mean), ended));
    say("rate-dose", dose == null ? words.notKnown : words.doseNow(scientific(dose)));
  }

  /** Courses over the time that is shown: each frame of the last minute, or what the service keeps. @param {import("./history.js").CountHistory} history */
  courses(history) {
    if (this.range !== 60) {
      if (!this.past) return { times: [], counts: new Map() };
      return { times: this.past.end, counts: new Map(this.past.by_class.map((one) => [one.class_id, one.mean])) };
    }
    const times = [];
    const slots = [];
    const newest = history.newest;
    for (let i = 0; i < history.length; i++) {
      const slot = history.slot(i);
      if (newest - history.time[slot] > 60) continue;
      times.push(history.time[slot]);
      slots.push(slot);
    }
    return { times, counts: new Map([...history.counts].map(([id, ring]) => [id, slots.map((slot) => ring[slot])])) };
  }

  /** Rates of what happens, over the time that is shown. @returns {Courses} */
  rateCourses() {
    const past = this.pastOf ?? (this.of ? null : this.past);
    const [first, last] = [past?.start?.[0], past?.end?.at(-1)];
    /** @type {Courses["counts"]} */
    const counts = new Map();
    if (!(last > first)) return { times: [], counts };
    const low = this.range ? last - Math.max(10, Math.min(this.range, last - first)) : first;
    /** @type {number[]} */
    let times = [];
    HAPPENINGS.forEach((kind, k) => {
      const found = ratesOver(past, kind, low, last);
      times = found.times;
      [found.rate, found.most, found.least].forEach((course, i) => counts.set(-1 - 3 * k - i, course));
    });
    return { times, counts };
  }

  /** What the chart shows, the lines that are in it, and what it is called. @param {import("./history.js").CountHistory} history @param {Line[]} classes */
  content(history, classes) {
    const { scalar } = this;
    const own = (/** @type {string[]} */ names) => names.map((name, k) => ({ class_id: -1 - 3 * k, name, colour: "#7cc4ff", role: "" }));
    if (scalar !== null) {
      const course = this.past?.scalars?.[scalar];
      return {
        lines: own([scalar]), name: scalar, total: course ? words.inNewest(figures(lastOf(course.mean))) : "", label: words.scalarLabel(scalar),
        none: this.past ? words.noScalar(scalar) : "",
        courses: { times: course ? this.past.end : [], counts: new Map([[-1, course?.mean], [-2, course?.max], [-3, course?.min]]) },
      };
    }
    if (this.kind === "rate") {
      const courses = this.rateCourses();
      const lines = own(words.happenings);
      return { lines, name: words.rates(this.of?.name), total: words.ratesKey, label: words.ratesLabel, none: words.noRates, courses };
    }
    return {
      lines: classes, name: this.kind === "density" ? words.density : words.counts, total: this.total,
      label: words.label(history.length, classes.map(({ name }) => name)), none: words.noCounts, courses: this.courses(history),
    };
  }

  /** @param {import("./history.js").CountHistory} history @param {Line[]} classes */
  draw(history, classes) {
    this.drawn = () => this.draw(history, classes);
    const { lines, name, total, label, none, courses } = this.content(history, classes);
    this.lines = lines;
    const banded = lines.some(({ class_id: id }) => id < 0);
    const found = broken(courses, this.boundaries.map(({ time }) => time));
    const empty = !lines.length || !found.times.length;
    byId("no-counts").hidden = !empty;
    say("no-counts", none);
    say("chart-name", name);
    say("defect-total", total);
    this.box.setAttribute("aria-label", label);
    if (empty || this.box.clientWidth < 120 || this.box.clientHeight < 50) {
      this.again = () => {};
      this.chart.clear();
      this.strip.clear();
      byId("strip").hidden = true;
      return;
    }
    const scale = this.kind === "density" && this.areaNm2 ? 1 / this.areaNm2 : 1;
    const values = (id) => (found.counts.get(id) ?? found.times.map(() => null)).map((n) => (n == null || Number.isNaN(n) ? null : n * scale));
    const [first, last] = [found.times[0], found.times[found.times.length - 1]];
    const low = this.range ? last - Math.max(10, Math.min(this.range, last - first)) : first;
    const span = { low, high: Math.max(last, low + 1) };
    const faint = (id) => (banded || this.of === null || this.of.class_id === id ? "" : "50");
    this.again = () => this.paint(found.times, lines.map(({ class_id: id, colour }, k) => ({
      values: values(id), colour: readable(colour) + faint(id),
      ...(banded ? { fill: "#7cc4ff38", band: [values(id - 1), values(id - 2)], dash: DASHES[k] } : {}),
    })), span);
    this.again();
  }

  /** @param {number[]} times @param {ChartLine[]} lines @param {{low: number, high: number}} span [s] */
  paint(times, lines, span) {
    const look = lookOf();
    const { scalar } = this;
    const seen = lines.flatMap(({ values, band }) => [values, ...(band ?? [])]).flat().map((one, i) => (times[i % times.length] >= span.low ? one : null)).filter((one) => one !== null);
    const [least, most] = [Math.min(...seen), Math.max(...seen)];
    const room = 0.1 * (most - least || Math.abs(most) || 1);
    const [low, high] = scalar !== null ? [least - room, most + room] : [0, most > 0 ? most * 1.12 : 1];
    const label = scalar ?? (this.kind === "rate" ? words.perMinute : this.kind === "density" && this.areaNm2 ? words.perNm2 : words.perFrame);
    for (const one of [this.chart, this.strip]) one.setRight(Boolean(this.past?.doses_e_per_a2) && !narrow());
    this.chart.draw({ times, lines, axes: [{ label, low, high }], ...span, look, over: (pen) => this.drawMarks(pen) });
    this.paintStrip(span, look);
    this.box.dataset.until = String(times[times.length - 1]);
    this.point(this.at);
  }

  /** Drift and dose beneath the counts: the same time, the same edges, the same crosshair. @param {{low: number, high: number}} span @param {ChartLook} look */
  paintStrip(span, look) {
    const { drift_nm: drift, doses_e_per_a2: doses } = this.past ?? {};
    byId("strip").hidden = !drift && !doses;
    if (!drift && !doses) return;
    const end = this.past.end.at(-1) ?? -Infinity;
    const since = drift ? this.moved.filter(([time]) => time > end) : [];
    let sum = 0;
    const added = doses?.map((one) => (one === null ? null : (sum += one)));
    const none = this.past.end.map(() => null);
    const told = new Map([
      [0, [...(drift?.x ?? none), ...since.map(([, x]) => x)]], [1, [...(drift?.y ?? none), ...since.map(([, , y]) => y)]],
      [2, [...(added ?? none), ...since.map(() => null)]],
    ]);
    const { times, counts } = broken({ times: [...this.past.end, ...since.map(([time]) => time)], counts: told }, this.boundaries.map(({ time }) => time));
    const [x, y, dose] = [0, 1, 2].map((one) => counts.get(one) ?? []);
    const moved = [...x, ...y].filter((one) => one !== null);
    const [least, most] = moved.length ? [Math.min(...moved), Math.max(...moved)] : [0, 0];
    const room = Math.max(0.12 * (most - least), (LEAST_DRIFT_NM - (most - least)) / 2);
    this.strip.draw({
      times, ...span, look,
      lines: [
        { values: dose, colour: look.warn, width: 1, fill: `${look.warn}22`, axis: 1 },
        { values: x, colour: look.accent, width: 1.5 },
        { values: y, colour: look.accent, width: 1.5, dash: [4, 3] },
      ],
      axes: [
        { label: drift ? words.drift : "", low: least - room, high: most + room, ...(drift ? {} : { format: () => "" }) },
        { label: doses && !narrow() ? words.dose : "", low: 0, high: sum || 1, format: (value) => (!doses || narrow() ? "" : value ? scientific(value, 0) : "0") },
      ],
    });
  }

  /** Series and models as bars, events as ticks, and where the picture is in time. @param {CanvasRenderingContext2D} pen */
  drawMarks(pen) {
    const { chart } = this;
    const { top, height } = chart.area;
    const { size, muted } = chart.look;
    const inside = (time) => time >= chart.low && time <= chart.high;
    pen.textAlign = "left";
    pen.textBaseline = "top";
    let last = -Infinity;
    for (const { time, label } of this.boundaries) {
      if (!inside(time)) continue;
      const x = Math.round(chart.x(time)) + 0.5;
      pen.strokeStyle = muted;
      pen.setLineDash([3, 3]);
      pen.beginPath();
      pen.moveTo(x, top);
      pen.lineTo(x, top + height);
      pen.stroke();
      pen.setLineDash([]);
      pen.fillStyle = muted;
      if (x < last + 5 * size) continue;
      last = x;
      pen.fillText(label, x + 4, top - size);
    }
    const colours = new Map(this.lines.map(({ class_id: id, colour }) => [id, readable(colour)]));
    for (const { time, classId } of this.ticks) {
      const colour = classId === undefined ? undefined : colours.get(classId);
      if (!colour || !inside(time)) continue;
      pen.fillStyle = colour;
      pen.fillRect(chart.x(time) - 0.5, top + height - 6, 1, 6);
    }
    if (this.seen !== null && inside(this.seen)) {
      pen.fillStyle = chart.look.accent;
      pen.fillRect(chart.x(this.seen) - 1, top, 2, height);
    }
  }

  /** What was at a time, in words. @param {number | null} time */
  showTip(time) {
    this.tip.hidden = time === null;
    if (time === null) return;
    const { times, lines } = this.chart;
    const i = this.chart.nearest(time);
    const said = (n, k) => {
      if (this.scalar !== null) return figures(n);
      if (this.kind === "rate") return words.rate(n, ...(lines[k].band ?? []).map((course) => course[i]).reverse());
      return fixed(n, this.kind === "density" ? 3 : Number.isInteger(n) ? 0 : 1);
    };
    const parts = this.lines.map(({ name }, k) => [name, lines[k]?.values[i], k]).filter(([, n]) => n != null).map(([name, n, k]) => `${name} ${said(n, k)}`);
    const k = byId("strip").hidden ? -1 : this.strip.nearest(time);
    const [dose, x, y] = this.strip.lines.map(({ values }) => values[k] ?? null);
    if (k >= 0 && x !== null) parts.push(words.driftAt(x, y));
    if (k >= 0 && dose !== null) parts.push(words.doseAt(scientific(dose)));
    setText(this.tip, [clock(new Date(1000 * times[i]).toISOString()), ...parts].join(" · "));
    this.tip.style.maxWidth = `${this.box.clientWidth - 8}px`;
    const [at, wide] = [this.chart.x(time) + this.box.offsetLeft, this.tip.offsetWidth];
    this.tip.style.left = `${at > wide + 16 ? at - wide - 8 : Math.max(4, Math.min(at + 8, this.box.clientWidth - wide - 4))}px`;
    this.tip.style.top = `${this.box.offsetTop + this.chart.area.top}px`;
  }
}

/** On a wall there is no room for the axis of the dose; its number stands beside. */
const narrow = () => document.documentElement.dataset.wall !== undefined;

/** A number of a header, as exact as it was told. @param {number | null} value */
const figures = (value) => (value === null ? "–" : Math.abs(value) >= 1e-3 && Math.abs(value) < 1e6 ? value.toLocaleString("en-GB", { maximumSignificantDigits: 6 }) : String(value)).replace("-", "−");

/** @param {(number | null)[]} values @returns {number | null} */
const lastOf = (values) => values.findLast((one) => one !== null) ?? null;

const UNITS = /** @type {[string, number][]} */ ([["h", 3600], ["min", 60], ["s", 1]]);
/** The unit in which a time is easily read. @param {number} seconds */
const unitOf = (seconds) => (UNITS.find(([, size]) => seconds >= 2 * size) ?? UNITS[2])[0];

/** A time in the unit of another one. @param {number} seconds @param {number} like */
const span = (seconds, like) => significant(seconds / (UNITS.find(([name]) => name === unitOf(like)) ?? UNITS[2])[1]);

/** On white the light colours of the marks would not be seen as lines. @param {string} colour */
export function readable(colour) {
  if (document.documentElement.dataset.theme !== "light") return colour;
  const channels = [1, 3, 5].map((i) => parseInt(colour.slice(i, i + 2), 16));
  const light = 0.299 * channels[0] + 0.587 * channels[1] + 0.114 * channels[2];
  const factor = light > 130 ? 130 / light : 1;
  return `#${channels.map((value) => Math.round(value * factor).toString(16).padStart(2, "0")).join("")}`;
}
