// @ts-check
/** The page: a live message goes to every view, and what people do in one view reaches the others. */

import { getJson } from "./access.js";
import { ClassCards } from "./class-cards.js";
import { attachContrast } from "./contrast.js";
import { drawCounts } from "./counts-chart.js";
import { byId, setText } from "./dom.js";
import { EmbeddingPlot } from "./embedding-plot.js";
import { EventFeed } from "./event-feed.js";
import { EventList } from "./event-list.js";
import { integer } from "./format.js";
import { FrameView } from "./frame-view.js";
import { CountHistory } from "./history.js";
import { LiveFeed } from "./live-feed.js";
import { showNotices } from "./notices.js";
import { StatusBar } from "./status-bar.js";

const CHART_EVERY_MS = 200;  // faster than this, a line over a minute only flickers
const TICK_MS = 250;
const BEFORE_S = 60;  // shown of the time before the page was opened

/**
 * @typedef {import("./live-message.js").LiveHeader} LiveHeader
 * @typedef {import("./live-message.js").ClassSummary} ClassSummary
 * @typedef {import("./live-message.js").Section} Section
 */

/** @type {Map<number, ClassSummary>} */
let catalogue = new Map();
/** @type {import("./socket.js").Connection} */
let connection = { state: "connecting" };
/** @type {number | null} number of the frame on the screen */
let drawnFrame = null;
let anyDrawn = false;
/** @type {string | null} */
let series = null;
let chartedAt = 0;
/** @type {ReturnType<typeof setTimeout> | undefined} draws the counts that came too soon after others */
let chartTimer;
/** @type {Parameters<typeof takeCounts>[0] | undefined} the newest, whether drawn or not */
let newestCounts;
/** @type {number | null} when the frame last counted was received */
let countedAt = null;

const history = new CountHistory();
const statusBar = new StatusBar();
const frameView = new FrameView();
const embedding = new EmbeddingPlot(byId("embedding"));
const cards = new ClassCards({
  emphasised: (classId) => {
    frameView.setEmphasis(classId);
    embedding.emphasis = classId;
    embedding.draw();
  },
  renamed: (classId, name) => {
    const summary = catalogue.get(classId);
    if (summary) takeClasses([...catalogue.values()].map((one) => (one === summary ? { ...one, name } : one)));
  },
});
const events = new EventList({
  colourOf: (classId) => catalogue.get(classId)?.colour,
  chosen: (px, track) => frameView.goTo(px, track),
});

const live = new LiveFeed({
  size: () => frameView.wantedSize,
  drawn: takeLive,
  status: takeStatus,
  changed: (now) => {
    connection = now;
    statusBar.setConnected(now.state === "open");
    tick();
  },
});

const eventFeed = new EventFeed({
  received: (event) => {
    events.add(event);
    // Another page may have changed the catalogue: ask for it whole with the next frame.
    if (event.type.startsWith("class.") || event.type === "model.updated") live.modelVersion = null;
  },
  restarted: () => events.clear(),
});

/** @param {LiveHeader} header @param {Record<string, Section>} arrays */
function takeLive(header, arrays) {
  if (header.series_id !== null && header.series_id !== series) {
    series = header.series_id;
    history.clear();
  }
  if (header.classes) takeClasses(header.classes, header.status.model_version);
  if (arrays.embedding) takeEmbedding(arrays);
  if (arrays.image) {
    drawnFrame = header.frame;
    anyDrawn = true;
    frameView.show(header, arrays);
    frameView.draw();
    setText(byId("frame-caption"), caption(header));
    // The same frame comes again when its state changes: a class was renamed, the stream has stalled. Before there
    // are classes there is nothing to count.
    if (header.counts.by_class.length && header.t_received !== null && header.t_received !== countedAt) {
      countedAt = header.t_received;
      const first = history.length === 0;
      history.push(countedAt, header.counts.by_class);
      if (first) recall(countedAt);
    }
  }
  takeCounts(header.counts);
  takeStatus(header.status);
}

/** Put what was counted before this page looked in front of the chart. @param {number} now time of the first frame [s] */
async function recall(now) {
  try {
    const of = series;
    const past = await getJson(`v1/history?points=400&since=${now - BEFORE_S}`);
    if (of !== series) return;
    history.precede(past.end, past.by_class);
    chartCounts();
  } catch {
    // The chart begins with the frames that come; what ails the connection is said elsewhere.
  }
}

/** @param {import("./live-message.js").Status} status */
function takeStatus(status) {
  statusBar.update(status);
  tick();
}

/** @param {ClassSummary[]} classes @param {number} [version] */
function takeClasses(classes, version = statusBar.status?.model_version ?? 0) {
  catalogue = new Map(classes.map((summary) => [summary.class_id, summary]));
  history.keepOnly(new Set(catalogue.keys()));
  frameView.setLooks(catalogue);
  frameView.requestDraw();
  embedding.looks = catalogue;
  embedding.draw();
  cards.update(classes, version);
  chartedAt = 0;
}

/** @param {Record<string, Section>} arrays */
function takeEmbedding({ embedding: points, embedding_class: classId }) {
  embedding.setPoints(/** @type {Float32Array} */ (points.data), /** @type {Int16Array} */ (classId.data));
  embedding.draw();
  byId("no-embedding").hidden = embedding.length > 0;
  setText(byId("embedding-size"), embedding.length ? `${integer(embedding.length)} sites` : "");
  byId("embedding").setAttribute("aria-label", `Force-relaxed layout of ${embedding.length} learnt sites, coloured by class`);
}

/** @param {LiveHeader["counts"]} counts */
function takeCounts(counts) {
  // Before there are classes every site is "unknown", which would only alarm.
  const learnt = counts.by_class.length > 0;
  for (const role of ["defect", "neighbour", "host", "unknown"]) {
    setText(byId(`count-${role}`), learnt ? integer(counts.by_role[role] ?? 0) : "–");
  }
  setText(byId("defect-total"), learnt ? `${integer(counts.by_role.defect ?? 0)} in frame` : "");
  newestCounts = counts;
  // The last counts before a stream stops are drawn too, when their turn comes.
  const wait = CHART_EVERY_MS - (performance.now() - chartedAt);
  if (wait <= 0) chartCounts();
  else chartTimer ??= setTimeout(chartCounts, wait);
}

/** Draw the newest counts on the class cards and the chart. */
function chartCounts() {
  clearTimeout(chartTimer);
  chartTimer = undefined;
  if (newestCounts === undefined) return;
  chartedAt = performance.now();
  cards.updateCounts(new Map(newestCounts.by_class.map(({ class_id: id, n }) => [id, n])), history);
  drawChart();
}

function drawChart() {
  const lines = [...catalogue.values()].filter(({ role }) => role === "defect");
  drawCounts(byId("counts-chart"), history, lines);
  byId("counts-chart").setAttribute(
    "aria-label",
    `Defects per frame over the last ${history.length} frames: ${lines.map(({ name }) => name).join(", ") || "none yet"}`,
  );
}

/** @param {LiveHeader} header */
function caption({ frame, shape, pixel_size_nm: nm }) {
  const parts = [`frame ${frame ?? "–"}`];
  if (shape) {
    parts.push(`${shape[0]} × ${shape[1]} px`);
    if (nm) parts.push(`${(shape[0] * nm).toPrecision(3)} × ${(shape[1] * nm).toPrecision(3)} nm`);
  }
  return parts.join(" · ");
}

function tick() {
  statusBar.tick();
  showNotices({ connection, status: statusBar.status, age: statusBar.age, drawn: anyDrawn ? drawnFrame : null });
}

/** @typedef {"defect" | "neighbour" | "host" | "unknown"} RoleName */
for (const role of /** @type {RoleName[]} */ (["defect", "neighbour", "host", "unknown"])) {
  const button = byId(`show-${role}`);
  button.addEventListener("click", () => {
    const shown = button.getAttribute("aria-pressed") !== "true";
    button.setAttribute("aria-pressed", String(shown));
    frameView.setShown(role, shown);
  });
}
for (const [id, change] of /** @type {[string, () => void][]} */ ([
  ["zoom-in", () => frameView.view.zoom(1.5)],
  ["zoom-out", () => frameView.view.zoom(1 / 1.5)],
  ["zoom-fit", () => frameView.view.fit()],
])) {
  byId(id).addEventListener("click", () => {
    change();
    frameView.requestDraw();
  });
}
attachContrast((black, white, gamma) => frameView.setContrast(black, white, gamma));
byId("retry").addEventListener("click", () => {
  live.reconnect();
  eventFeed.reconnect();
});
new ResizeObserver(drawChart).observe(byId("counts-chart"));
window.setInterval(tick, TICK_MS);
live.connect();
eventFeed.connect();
