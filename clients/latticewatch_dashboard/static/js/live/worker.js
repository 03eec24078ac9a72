/**
 * The worker: sockets, decoding, the frames of the last minutes, and the painting of picture and marks. A busy page
 * is busy without it, so the picture stays young. The page gets a summary of what is on the screen, one at a time.
 */

import { EventFeed } from "./event-feed.js";
import { LiveFeed } from "./feed.js";
import { Painter } from "./painter.js";
import { shares } from "./regions.js";
import { Ring } from "./ring.js";
import { Service } from "./socket.js";
import { Sites } from "./sites.js";
/** @import {Frame, LiveHeader, Section, SpaceNow} from "../types.d.ts" */

const SUMMARY_MS = 100;  // faster than this, numbers only flicker
const EVENTS_MS = 250;
const HISTOGRAM_SAMPLES = 40_000;
const REPLAY_BEFORE_S = 2;
const REPLAY_AFTER_S = 1.5;
const TRAIL_FRAMES = 60;
const BYTES_PER_PIXEL = 1.2;  // of a message, to a pixel of the stage

/** @type {any} */
const scope = self;
const post = (message, /** @type {Transferable[]} */ transfer = []) => scope.postMessage(message, transfer);

/** @type {Painter} */ let painter;
/** @type {Service} */ let service;
/** @type {LiveFeed} */ let live;
/** @type {EventFeed} */ let events;
/** @type {Ring} */ let ring;

/** What is on the screen. @type {Frame | null} */
let shown = null;
let paused = false;
let hidden = false;
let painting = 0;
let viewNumber = 0;  // of the view that the page told last
let track = -1;
let following = false;
let trails = false;
/** Drift of the frame at which the view was locked to the sample [nm]; not locked without. @type {[number, number] | null} */
let lockedAt = null;
/** Side of the average patches [frame px]; a guess until one is there. */
let patchPx = 0;
/** @type {((key: string | null) => void) | null} */
let keyGiven = null;

// one summary at a time: the page says when it has read the last one
let read = true;
let due = false;
let summarisedAt = -Infinity;
/** @type {ReturnType<typeof setTimeout> | undefined} */
let summaryTimer;
/** Catalogue and layout that the page has not got yet. @type {Record<string, any>} */
let news = {};
/** @type {any[]} */
let waitingEvents = [];
/** @type {ReturnType<typeof setTimeout> | undefined} */
let eventTimer;

/** @type {Record<string, (message: any) => void>} */
const handlers = {
  start({ canvas, base, key, maxBytes, view, style, contrast }) {
    painter = new Painter(canvas);
    painter.view.take(view);
    painter.ratio = view.ratio;
    painter.setStyle(style);
    painter.setContrast(contrast);
    ring = new Ring(maxBytes);
    service = new Service(base, () => {
      post({ type: "key" });
      return new Promise((resolve) => (keyGiven = resolve));
    });
    service.key = key;
    live = new LiveFeed(service, {
      view: wantedView,
      track: () => track,
      received: take,
      painted: (then) => {
        if (hidden) then();
        else requestAnimationFrame(() => {
          if (shown && !paused) noteAge(shown);
          then();
        });
      },
      status: (status) => post({ type: "status", status }),
      changed: (connection) => post({ type: "connection", connection }),
    });
    events = new EventFeed(service, {
      received: (event) => {
        // Another page may have changed the catalogue: ask for it whole with the next frame.
        if (event.type.startsWith("class.") || event.type === "model.updated") live.modelVersion = null;
        waitingEvents.push(event);
        eventTimer ??= setTimeout(flushEvents, EVENTS_MS);
      },
      restarted: () => {
        waitingEvents = [];
        post({ type: "restarted" });
      },
    });
    live.connect();
    events.connect();
  },
  key({ key }) {
    service.key = key ?? service.key;
    keyGiven?.(key);
    keyGiven = null;
  },
  view({ view }) {
    const { view: mine } = painter;
    painter.ratio = view.ratio;
    viewNumber = view.number;
    mine.take(view);
    requestPaint();
    if (!paused) live.look();
  },
  style({ style }) {
    painter.setStyle(style);
    requestPaint();
  },
  contrast({ contrast }) {
    painter.setContrast(contrast);
    requestPaint();
  },
  select({ track: wanted, follow }) {
    if (track !== wanted && !paused) live.look();  // what is known of it comes with the frame
    track = wanted;
    following = follow;
    requestPaint();
    summarise();
  },
  options({ trails: wanted, locked }) {
    trails = wanted;
    lockedAt = locked ? (lockedAt ?? shown?.header.drift_nm ?? null) : null;
    requestPaint();
    summarise();
  },
  patch({ px }) {
    patchPx = px;
    summarise();
  },
  space({ wanted }) {
    live.wantsSpace = wanted;
  },
  hidden({ hidden: now }) {
    hidden = now;
    live.setHidden(now);
    if (!now) requestPaint();
  },
  reconnect() {
    live.reconnect();
    events.reconnect();
  },
  pause() {
    paused = true;
    summarise();
  },
  resume() {
    paused = false;
    show(ring.frames[ring.length - 1] ?? null);
  },
  step({ by }) {
    paused = true;
    const at = ring.indexOf(shown);
    show(ring.frames[Math.min(ring.length - 1, Math.max(0, at + by))] ?? shown);
  },
  seek({ time }) {
    paused = true;
    show(ring.frames[ring.nearest(time)] ?? shown);
  },
  probe({ row, column }) {
    post({ type: "level", row, column, level: painter.levelAt(row, column) });
  },
  replay({ track: of, time, row, column, size, drift }) {
    post({ type: "replay", ...replay(of, time, { row, column }, size, drift) });
  },
  async picture({ legend }) {
    post({ type: "picture", blob: await painter.export(legend) });
  },
  read() {
    read = true;
    if (due) summarise();
  },
};

scope.onmessage = ({ data }) => handlers[data.type]?.(data);

/** The part of the frame that the stage shows, a little more for moving it, and the room for it. */
function wantedView() {
  const { view, ratio } = painter;
  if (view.width < 16 || view.height < 16) return null;
  const [width, height] = [view.width * ratio, view.height * ratio].map((side) => Math.min(8192, Math.max(16, Math.round(side))));
  const room = { width, height, max_bytes: Math.max(16_384, Math.floor(BYTES_PER_PIXEL * width * height)) };
  if (view.fitted) return { top: 0, left: 0, rows: null, columns: null, ...room };
  const [top, left] = view.toFrame(0, 0);
  const rows = view.height / view.scale;
  const columns = view.width / view.scale;
  const margin = 0.04;
  return {
    top: top + 0.5 - margin * rows, left: left + 0.5 - margin * columns,
    rows: (1 + 2 * margin) * rows, columns: (1 + 2 * margin) * columns, ...room,
  };
}

/** @param {{header: LiveHeader, arrays: Record<string, Section>, nbytes: number}} message */
function take({ header, arrays, nbytes }) {
  if (header.classes) {
    news.classes = header.classes;
    painter.setLooks(header.classes);
  }
  if (arrays.embedding) {
    news.embedding = arrays.embedding.data.slice();
    news.embeddingClass = arrays.embedding_class.data.slice();
  }
  if (header.plane) news.space = { ...news.space, ...spaceOf(header, header.plane, arrays) };
  if (!arrays.image) {
    post({ type: "status", status: header.status, counts: header.counts, ...takeNews() });
    return;
  }
  // When its series ends, the last frame comes again: it belongs to that series all the same.
  const before = ring.frames[ring.length - 1]?.header;
  const series = header.series_id ?? (before?.t_received === header.t_received ? before.series_id : null);
  // The catalogue and the layout would be kept as often as there are frames.
  const one = { header: { ...header, series_id: series, classes: null, plane: null }, arrays, sites: new Sites(arrays), nbytes, at: performance.now() };
  ring.push(one);
  if (paused) {
    summarise();
    return;
  }
  show(one);
}

/** Copies: a view would keep the whole message alive. @param {LiveHeader} header @param {SpaceNow} now @param {Record<string, Section>} arrays */
function spaceOf(header, now, arrays) {
  const named = { points: arrays.plane, classId: arrays.plane_class, pool: arrays.pool, poolClass: arrays.pool_class };
  const here = Object.entries(named).filter(([, section]) => section);
  return { now, ...Object.fromEntries(here.map(([name, { data }]) => [name, data.slice()])), tracks: tracksOf(header, now, arrays) };
}

/** Tracks of the points of the newest frame, where that frame is here with all of its sites. @param {LiveHeader} header @param {SpaceNow} now @param {Record<string, Section>} arrays */
function tracksOf(header, now, arrays) {
  const track = header.frame === now.frame ? arrays.track?.data : ring.frames.findLast(({ header: { frame } }) => frame === now.frame)?.sites.track;
  return track && arrays.plane_site && !header.hosts_left_out ? arrays.plane_site.data.map((site) => track[site] ?? -1) : null;
}

function takeNews() {
  const taken = news;
  news = {};
  return taken;
}

/** @param {Frame | null} frame */
function show(frame) {
  if (!frame) return;
  shown = frame;
  const { header } = frame;
  const [rows, columns] = header.shape ?? frame.arrays.image.shape;
  painter.view.setFrame(rows, columns);
  lockView(header);
  const site = track >= 0 ? frame.sites.ofTrack(track) : -1;
  if (following && site >= 0 && !painter.view.fitted) painter.view.centre(frame.sites.row(site), frame.sites.column(site));
  paint();
  summarise();
}

/** Take the drift off since the view was locked to the sample, if it is. @param {LiveHeader} header */
function lockView({ drift_nm: drift, pixel_size_nm: size }) {
  painter.view.setShift(lockedAt && drift && size ? { row: (drift[1] - lockedAt[1]) / size, column: (drift[0] - lockedAt[0]) / size } : null);
}

function requestPaint() {
  if (!painting) painting = requestAnimationFrame(() => {
    painting = 0;
    if (shown) lockView(shown.header);
    paint();
  });
}

function paint() {
  if (!shown || painter.view.width < 2) return;
  painter.paint(shown, { track, trails: trails ? trailsOf(shown) : track >= 0 ? trailsOf(shown, track) : [] });
}

/**
 * Where defects have been lately, in the coordinates of the frame on the screen; with the view locked, on the sample.
 * @param {Frame} now @param {number} [only] this track
 */
function trailsOf(now, only) {
  const end = ring.indexOf(now);
  const { header } = now;
  const tracks = only !== undefined ? [only] : now.sites.notable().map((i) => now.sites.track[i]).filter((one) => one >= 0).slice(0, 200);
  /** @type {Map<number, [number, number][]>} */
  const found = new Map(tracks.map((one) => [one, []]));
  for (let k = Math.max(0, end - TRAIL_FRAMES); k <= end; k++) {
    const one = ring.frames[k];
    if (!one || one.header.series_id !== header.series_id) continue;
    let [dr, dc] = [0, 0];
    if (lockedAt && one.header.drift_nm && header.drift_nm && header.pixel_size_nm) {
      dr = (header.drift_nm[1] - one.header.drift_nm[1]) / header.pixel_size_nm;
      dc = (header.drift_nm[0] - one.header.drift_nm[0]) / header.pixel_size_nm;
    }
    for (const [id, points] of found) {
      const i = one.sites.ofTrack(id);
      if (i >= 0) points.push([one.sites.row(i) + dr, one.sites.column(i) + dc]);
    }
  }
  return [...found].map(([id, points]) => ({ track: id, points }));
}

/** Tell the page what is on the screen, soon, and not before it has read the last time. */
function summarise() {
  due = true;
  if (!read) return;
  const wait = SUMMARY_MS - (performance.now() - summarisedAt);
  clearTimeout(summaryTimer);
  if (wait > 0) summaryTimer = setTimeout(summarise, wait);
  else sendSummary();
}

function sendSummary() {
  due = false;
  const newest = ring.frames[ring.length - 1];
  if (!shown || !newest) return;
  read = false;
  summarisedAt = performance.now();
  const { sites, header, arrays } = shown;
  const copies = {
    positions: sites.position.slice(), class_id: sites.classId.slice(), role: sites.role.slice(),
    track: sites.track.slice(), confidence: sites.confidence.slice(),
  };
  const site = track >= 0 ? sites.ofTrack(track) : -1;
  post(
    {
      type: "summary",
      header,
      newest: newest.header,
      // how long ago each was taken in here: the clocks of service and page may differ
      age: ageOf(shown),
      newestAge: ageOf(newest),
      shift: [painter.view.shiftRow, painter.view.shiftColumn],
      place: following ? { ...painter.view.place, number: viewNumber } : null,
      sites: copies,
      paused,
      behind: newest.header.ordinal - header.ordinal,
      span: ring.span,
      course: track >= 0 ? ring.course(track, header.series_id) : null,
      patch: site >= 0 ? painter.cut(shown, sites.row(site), sites.column(site), patchSize(header), true) : null,
      histogram: histogramOf(/** @type {Uint8Array} */ (arrays.image.data)),
      stats: { asked: live.asked, got: live.got, nbytes: live.nbytes, ring: ring.nbytes, paintMs: painter.lastMs, age50Ms: ageMs(0.5), age99Ms: ageMs(0.99) },
      regions: shares(shown),
      overview: arrays.overview ? { shape: arrays.overview.shape, data: arrays.overview.data.slice(), scale: header.overview_scale } : null,
      ...takeNews(),
    },
    Object.values(copies).map(({ buffer }) => buffer),
  );
}

/** Ages of the last pictures when they were on the screen [s]. @type {number[]} */
const ages = [];

/** @type {number | null} */
let noted = null;

/** A frame that comes again, because its state has changed, is not older for that. @param {Frame} frame */
function noteAge(frame) {
  if (frame.header.t_received === noted) return;
  noted = frame.header.t_received;
  ages.push(ageOf(frame));
  if (ages.length > 300) ages.shift();
}

/** Age that this share of the last pictures did not exceed [ms]. @param {number} share */
const ageMs = (share) => 1000 * ([...ages].sort((a, b) => a - b)[Math.floor(share * (ages.length - 1))] ?? 0);

/** @param {Frame} frame seconds since it was received by the service */
const ageOf = (frame) => (frame.header.age_s ?? 0) + (performance.now() - /** @type {any} */ (frame).at) / 1000;

/** @param {LiveHeader} header */
const patchSize = (header) => patchPx || Math.round(2.4 * (header.status.lattice_constant_px ?? 12));

/** @param {Uint8Array} levels */
function histogramOf(levels) {
  const counts = new Uint32Array(256);
  const step = Math.max(1, Math.floor(levels.length / HISTOGRAM_SAMPLES));
  for (let i = 0; i < levels.length; i += step) counts[levels[i]]++;
  return counts;
}

function flushEvents() {
  eventTimer = undefined;
  post({ type: "events", events: waitingEvents });
  waitingEvents = [];
}

/**
 * What was around a place before and after a moment, cut out of the frames that are still here.
 * @param {number} of track, or -1 @param {number} time of the event [s] @param {{row: number, column: number}} px
 * @param {number} size [frame px] @param {[number, number] | null} drift at the event [nm]
 */
function replay(of, time, px, size, drift) {
  const frames = [];
  for (const one of ring.frames) {
    const t = one.header.t_received ?? 0;
    if (t < time - REPLAY_BEFORE_S || t > time + REPLAY_AFTER_S) continue;
    const i = of >= 0 ? one.sites.ofTrack(of) : -1;
    let { row, column } = px;
    if (i >= 0) [row, column] = [one.sites.row(i), one.sites.column(i)];
    else if (drift && one.header.drift_nm && one.header.pixel_size_nm) {
      row += (one.header.drift_nm[1] - drift[1]) / one.header.pixel_size_nm;
      column += (one.header.drift_nm[0] - drift[0]) / one.header.pixel_size_nm;
    }
    const patch = painter.cut(one, row, column, size);
    if (patch) frames.push({ ...patch, after: t - time, frame: one.header.frame });
  }
  return { frames, track: of };
}
