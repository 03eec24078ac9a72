// @ts-check
/** Defects over time: a line for each class, broken where a series, a model or the stream breaks; click to look back. */

import { getJson } from "./access.js";
import { byId, element, setText } from "./dom.js";
import { clock, fixed, integer, several, significant } from "./format.js";
/** @import {Boundary, Courses, Line} from "./types.d.ts" */

const GAP_S = 5;  // a longer pause between frames breaks the line
const GAP_STEPS = 4;  // and so does one of so many usual steps
const REFRESH_MS = 5000;
const POINTS = 400;
const MOST_MARKS = 400;
const FONT = 'Inter, "Segoe UI", Roboto, "Liberation Sans", Arial, sans-serif';

/** @type {any} vendored, a classic script */
const uPlot = /** @type {any} */ (window).uPlot;

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
  /** @param {{sought: (time: number) => void}} handlers */
  constructor({ sought }) {
    this.box = byId("counts-chart");
    this.tip = element("div", { class: "chart-tip", hidden: true });
    byId("counts-title").closest("section")?.append(this.tip);
    this.range = 60;
    this.kind = "count";
    this.total = "";  // how many defects are in the newest frame
    /** @type {Line[]} */
    this.lines = [];
    /** @type {Boundary[]} */
    this.boundaries = [];
    /** @type {{time: number, classId: number | undefined}[]} */
    this.ticks = [];
    /** @type {any} */
    this.past = null;
    this.areaNm2 = null;
    /** @type {number | null} time of the frame on the screen, where it is not the newest */
    this.seen = null;
    /** @type {any} */
    this.plot = null;
    this.key = "";
    this.fetched = -Infinity;
    this.box.addEventListener("click", () => {
      const left = this.plot?.cursor.left;
      if (left >= 0) sought(this.plot.posToVal(left, "x"));
    });
    new ResizeObserver(() => this.resize()).observe(this.box);
  }

  /** @param {number} range seconds, 0 for all */
  setRange(range) {
    this.range = range;
    this.fetched = -Infinity;
    this.past = null;
  }

  /** @param {string} kind "count", "density", or "=" and the name of a number of the headers */
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

  /** Ask for statistics of the time that is shown, if the last are old. @param {number} now time of the newest frame [s] */
  async refresh(now) {
    if (performance.now() - this.fetched < REFRESH_MS) return;
    this.fetched = performance.now();
    const { range } = this;
    try {
      const past = await getJson(`v1/history?points=${POINTS}${range ? `&since=${now - range}` : ""}`);
      if (range !== this.range) return;
      this.past = past;
      this.areaNm2 = past.area_nm2;
      this.offerScalars();
      this.writeRates(past);
    } catch {
      this.fetched = performance.now();  // what ails the connection is said elsewhere
    }
  }

  /** @param {any} past */
  writeRates({ rates, lifetimes, dose_e_per_a2: dose }) {
    const rate = (/** @type {any} */ one) => {
      if (!one || one.per_minute == null) return "–";
      if (!one.n) return "none seen";
      const scale = one.per_minute / one.n;
      return `${significant(one.per_minute)} (${significant(one.n_low * scale)}–${significant(one.n_high * scale)}) per min`;
    };
    setText(byId("rate-appeared"), rate(rates.appeared));
    setText(byId("rate-disappeared"), rate(rates.disappeared));
    const { mean_s: mean, mean_low_s: low, mean_high_s: high, n_ended: ended } = lifetimes;
    setText(byId("rate-lifetime"), mean == null ? "not known yet" : `${span(mean, mean)} (${span(low, mean)}–${span(high, mean)}) ${unitOf(mean)}, ${integer(ended)} ended`);
    setText(byId("rate-dose"), dose == null ? "not known" : `${scientific(dose)} electrons/Å²`);
  }

  /** Courses over the time that is shown: each frame of the last minute, or what the service keeps. @param {import("./history.js").CountHistory} history */
  courses(history) {
    if (this.range !== 60) {
      if (!this.past) return { times: [], counts: new Map() };
      return { times: this.past.end, counts: new Map(this.past.by_class.map((/** @type {any} */ one) => [one.class_id, one.mean])) };
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

  /** @param {import("./history.js").CountHistory} history @param {Line[]} classes */
  draw(history, classes) {
    const { scalar } = this;
    const course = scalar === null ? null : this.past?.scalars?.[scalar];
    const lines = scalar === null ? classes : [{ class_id: -1, name: scalar, colour: "#7cc4ff", role: "" }];
    this.lines = lines;
    const ends = this.boundaries.map(({ time }) => time);
    const found = scalar === null ? broken(this.courses(history), ends)
      : broken({ times: course ? this.past.end : [], counts: new Map([[-1, course?.mean], [-2, course?.max], [-3, course?.min]]) }, ends);
    const empty = !lines.length || !found.times.length;
    byId("no-counts").hidden = !empty;
    setText(byId("no-counts"), scalar === null ? "Counts appear once classes are learnt." : this.past ? `No frame of this time tells ${scalar}.` : "");
    setText(byId("chart-name"), scalar ?? (this.kind === "density" ? "Defects per nm²" : "Defects per frame"));
    setText(byId("defect-total"), scalar === null ? this.total : course ? `${figures(lastOf(course.mean))} in the newest frame` : "");
    this.box.setAttribute("aria-label", scalar === null
      ? `Defects per frame over the last ${several(history.length, "frame")}: ${lines.map(({ name }) => name).join(", ") || "none yet"}` : `${scalar} over time`);
    if (empty || this.box.clientWidth < 120 || this.box.clientHeight < 50) {
      this.plot?.destroy();
      this.plot = null;
      this.key = "";
      return;
    }
    const scale = this.kind === "density" && this.areaNm2 ? 1 / this.areaNm2 : 1;
    const data = [found.times, ...(scalar === null ? lines.map(({ class_id: id }) => id) : [-1, -2, -3]).map((id) =>
      (found.counts.get(id) ?? found.times.map(() => null)).map((n) => (n === null || Number.isNaN(n) ? null : n * scale)))];
    const theme = document.documentElement.dataset.theme;
    const key = JSON.stringify([lines.map(({ name, colour }) => [name, colour]), this.kind, scale === 1, theme]);
    if (key !== this.key || !this.plot) {
      this.plot?.destroy();
      this.plot = new uPlot(this.options(lines), data, this.box);
      this.key = key;
    } else {
      this.plot.setData(data);
    }
    const last = found.times[found.times.length - 1];
    this.plot.setScale("x", { min: this.range ? last - Math.max(10, Math.min(this.range, last - found.times[0])) : found.times[0], max: Math.max(last, found.times[0] + 1) });
  }

  resize() {
    this.plot?.setSize({ width: this.box.clientWidth, height: this.box.clientHeight });
  }

  /** @param {Line[]} lines */
  options(lines) {
    const style = getComputedStyle(document.documentElement);
    const [muted, grid] = ["--muted", "--grid"].map((name) => style.getPropertyValue(name).trim());
    const size = Math.round(parseFloat(style.fontSize) * 0.82);  // uPlot scales whole pixels only
    const font = `${size}px ${FONT}`;
    const { scalar } = this;
    const unit = scalar ?? (this.kind === "density" && this.areaNm2 ? "defects per nm²" : "defects per frame");
    return {
      width: this.box.clientWidth,
      height: this.box.clientHeight,
      legend: { show: false },
      cursor: { y: false, points: { size: 6 }, drag: { x: false, y: false } },
      scales: {
        x: { time: true, auto: false },
        y: {
          range: (/** @type {any} */ _, /** @type {number} */ low, /** @type {number} */ high) => {
            const room = 0.1 * (high - low || Math.abs(high) || 1);
            return scalar !== null ? [low - room, high + room] : [0, high > 0 ? high * 1.12 : 1];
          },
        },
      },
      axes: [
        {
          stroke: muted, font, grid: { stroke: grid, width: 1 }, ticks: { stroke: grid, size: 4 }, size: size * 1.9, gap: 2,
          values: (/** @type {any} */ _, /** @type {number[]} */ ticks) => ticks.map((tick) => clock(new Date(1000 * tick).toISOString())),
          space: size * 7,
        },
        {
          stroke: muted, font, grid: { stroke: grid, width: 1 }, ticks: { show: false }, size: size * 3.6, gap: 4, label: unit,
          labelFont: font, labelSize: size * 1.5, labelGap: 0, space: size * 2,
        },
      ],
      series: [{}, ...lines.map(({ name, colour }) => ({
        label: name, stroke: readable(colour), width: 1.75, spanGaps: false, points: { show: false },
      })), ...(scalar === null ? [] : [1, 2].map(() => ({ points: { show: false } })))],
      bands: scalar === null ? [] : [{ series: [2, 3], fill: "#7cc4ff40" }],
      hooks: {
        draw: [(/** @type {any} */ plot) => this.drawMarks(plot, muted)],
        setCursor: [(/** @type {any} */ plot) => this.showTip(plot)],
      },
    };
  }

  /** Series and models as bars, events as ticks, and where the picture is in time. @param {any} plot @param {string} muted */
  drawMarks(plot, muted) {
    const { ctx: pen, bbox } = plot;
    const ratio = devicePixelRatio;
    const inside = (/** @type {number} */ time) => time >= plot.scales.x.min && time <= plot.scales.x.max;
    pen.save();
    const [font, height] = plot.axes[0].font;  // as large as the numbers, on a wall too
    pen.font = font;
    pen.textAlign = "left";
    let last = -Infinity;
    for (const { time, label } of this.boundaries) {
      if (!inside(time)) continue;
      const x = plot.valToPos(time, "x", true);
      pen.strokeStyle = muted;
      pen.setLineDash([3 * ratio, 3 * ratio]);
      pen.beginPath();
      pen.moveTo(x, bbox.top);
      pen.lineTo(x, bbox.top + bbox.height);
      pen.stroke();
      pen.setLineDash([]);
      pen.fillStyle = muted;
      if (x < last + 5 * height) continue;
      last = x;
      pen.fillText(label, x + 4 * ratio, bbox.top + height);
    }
    const colours = new Map(this.lines.map(({ class_id: id, colour }) => [id, colour]));
    for (const { time, classId } of this.ticks) {
      const colour = classId === undefined ? undefined : colours.get(classId);
      if (!colour || !inside(time)) continue;
      pen.fillStyle = colour;
      pen.fillRect(plot.valToPos(time, "x", true) - ratio / 2, bbox.top + bbox.height - 6 * ratio, ratio, 6 * ratio);
    }
    if (this.seen !== null && inside(this.seen)) {
      const x = plot.valToPos(this.seen, "x", true);
      pen.fillStyle = "#7cc4ff";
      pen.fillRect(x - ratio, bbox.top, 2 * ratio, bbox.height);
    }
    pen.restore();
  }

  /** @param {any} plot */
  showTip(plot) {
    const { left, idx } = plot.cursor;
    if (left === undefined || left < 0 || idx == null) {
      this.tip.hidden = true;
      return;
    }
    const parts = this.lines.map(({ name }, i) => [name, plot.data[i + 1][idx]]).filter(([, n]) => n != null);
    const digits = this.kind === "density" ? 3 : Number.isInteger(parts[0]?.[1]) ? 0 : 1;
    const said = (/** @type {number} */ n) => (this.scalar === null ? fixed(n, digits) : figures(n));
    setText(this.tip, `${clock(new Date(1000 * plot.data[0][idx]).toISOString())}   ${parts.map(([name, n]) => `${name} ${said(/** @type {number} */ (n))}`).join("   ")}`);
    this.tip.hidden = false;
    const room = this.box.clientWidth - this.tip.offsetWidth - 8;
    this.tip.style.left = `${Math.max(4, Math.min(room, left + this.box.offsetLeft - this.tip.offsetWidth / 2 + 50))}px`;
    this.tip.style.top = `${this.box.offsetTop - 4}px`;
  }
}

/** A number of a header, as exact as it was told. @param {number | null} value */
const figures = (value) => (value === null ? "–" : Math.abs(value) >= 1e-3 && Math.abs(value) < 1e6 ? value.toLocaleString("en-GB", { maximumSignificantDigits: 6 }) : String(value)).replace("-", "−");

/** @param {(number | null)[]} values @returns {number | null} */
const lastOf = (values) => values.findLast((one) => one !== null) ?? null;

const UNITS = /** @type {[string, number][]} */ ([["h", 3600], ["min", 60], ["s", 1]]);
/** The unit in which a time is easily read. @param {number} seconds */
const unitOf = (seconds) => (UNITS.find(([, size]) => seconds >= 2 * size) ?? UNITS[2])[0];

/** A time in the unit of another one. @param {number} seconds @param {number} like */
const span = (seconds, like) => significant(seconds / (UNITS.find(([name]) => name === unitOf(like)) ?? UNITS[2])[1]);

/** With an exponent as it is printed: 3.4 × 10⁶. @param {number} value */
function scientific(value) {
  const [digits, exponent] = value.toExponential(1).split("e");
  const raised = [...String(Number(exponent))].map((sign) => (sign === "-" ? "⁻" : "⁰¹²³⁴⁵⁶⁷⁸⁹"[Number(sign)])).join("");
  return `${digits} × 10${raised}`;
}

/** On white the light colours of the marks would not be seen as lines. @param {string} colour */
export function readable(colour) {
  if (document.documentElement.dataset.theme !== "light") return colour;
  const channels = [1, 3, 5].map((i) => parseInt(colour.slice(i, i + 2), 16));
  const light = 0.299 * channels[0] + 0.587 * channels[1] + 0.114 * channels[2];
  const factor = light > 130 ? 130 / light : 1;
  return `#${channels.map((value) => Math.round(value * factor).toString(16).padStart(2, "0")).join("")}`;
}
