/** Shapes of what goes between the parts of the page. For editors and type checkers: no browser loads this file. */

import type { Sites } from "./live/sites.js";

// what the service sends

export type ClassCount = { name: string; role: string; class_id: number; n: number };

export type ClassSummary = {
  class_id: number; name: string; role: string; sublattice: number; host_class: number | null; count: number; total: number;
  separation: number | null; colour: string; shape: string; template: string | null; score: number | null;
  runner_up: [string, number] | null;
};

export type Status = {
  version: string; stream: string; source: string; series_id: string | null; phase: string; detail: string | null;
  learning: [number, number]; lattice_found: boolean | null;
  frames: {
    received: number; analysed: number; dropped: Record<string, number>; in_flight: number; lost_upstream: number;
    rejected: Record<string, number>;
  };
  fps: number | null; latency_ms: { p50: number | null; p99: number | null };
  last_frame: number | null; last_frame_age_s: number | null; model_version: number; n_sites: number | null;
  pixel_size_nm: number | null; lattice_constant_nm: number | null; lattice_constant_px: number | null;
  first_seq: number; last_seq: number; sources?: string[];
  notes?: { code: string; text: string; remedy: string; since_frame: number | null }[];
};

export type Sublattice = { sublattice: number; variances: number[]; edge: number | null; n_components: number; rows: number };

export type SpaceNow = { frame: number | null; layout: number | null; sublattices: Sublattice[] };

/** What is known of the site that was asked about; ``displacement_nm`` with its error along either axis. */
export type LiveSite = {
  track: number; classes: { class_id: number; probability: number }[]; displacement_nm: { x: number; y: number; sigma: number } | null;
};

export type LiveHeader = {
  ordinal: number; series_id: string | null; frame: number | null; shape: [number, number] | null;
  image_scale: number; image_origin?: [number, number]; overview_scale?: number | null; hosts_left_out?: number;
  pixel_size_nm: number | null; t_received: number | null; age_s: number | null; drift_nm: [number, number] | null; status: Status;
  counts: { frame: number | null; by_role: Record<string, number>; by_class: ClassCount[] };
  classes: ClassSummary[] | null; plane?: SpaceNow | null; site?: LiveSite | null; regions?: string[]; regions_scale?: number;
  sections: { name: string; dtype: string; shape: number[]; offset: number; nbytes: number }[];
};

/** One array of a live message. */
export type Section = { shape: number[]; data: Uint8Array | Int16Array | Int32Array | Float32Array };

export type ServiceEvent = { type: string; stream: string; seq: number; time: string; data: Record<string, any> };

// the worker

/** State of the connection; a lost one without ``retryAt`` waits for the person. */
export type Connection = { state: "connecting" | "open" | "lost"; retryAt?: number };

/** The part of the frame that is asked for [frame px], and the room for it [device px]. */
export type View = {
  top: number; left: number; rows: number | null; columns: number | null; width: number; height: number; max_bytes: number;
};

/** A frame that was received, as it is kept. */
export type Frame = { header: LiveHeader; arrays: Record<string, Section>; sites: Sites; nbytes: number };

/** The frame's corner on the screen [device px], and device pixels to a frame pixel. */
export type Place = { x0: number; y0: number; scale: number };

/** A picture: ``step`` frame pixels to one of its pixels, the corner of the first one at ``origin``. */
export type Levels = { levels: Uint8Array; rows: number; columns: number; origin: [number, number]; step: number };

/** Colours of a mark times their opacity, and the share of what is beneath, 0 to 256; the first ones cover it. */
export type Ink = { colour: Int32Array; rest: Int32Array; covering: number };

/** One mark, ready to be printed: its pixels that are not clear; ``steps`` are those in a raster of that width. */
export type Stamp = {
  dx: Int16Array; dy: Int16Array; alpha: Uint8Array; red: Uint8Array; green: Uint8Array; blue: Uint8Array;
  reach: number; width: number; steps: Int32Array; inks: Ink[];
};

export type Look = { name: string; colour: string; shape: string };

export type Shown = { regions: boolean; defect: boolean; neighbour: boolean; host: boolean; unknown: boolean };

export type Style = {
  looks: Map<number, Look>; shown: Shown; spacing: number; emphasis: number | null; hidden: Set<number>; learnt: boolean; ratio: number; rem: number;
};

/** A track through the frames that are kept. */
export type Course = {
  time: number[]; frame: number[]; classId: number[]; role: number[]; confidence: number[]; row: number[]; column: number[];
};

// from the worker to the page

/** What the page has not got yet. */
export type News = { classes?: ClassSummary[]; embedding?: Float32Array; embeddingClass?: Int16Array; space?: any };

/** The frame on the screen, and the newest one. */
export type Summary = {
  header: LiveHeader; newest: LiveHeader; age: number; newestAge: number; shift: [number, number]; place: any;
  sites: Record<string, any>; paused: boolean; behind: number; span: [number, number] | null;
  course: Course | null; patch: { width: number; pixels: Uint8ClampedArray } | null; histogram: Uint32Array;
  stats: { asked: number; got: number; nbytes: number; ring: number; paintMs: number; age50Ms: number; age99Ms: number };
  overview: { shape: number[]; data: Uint8Array; scale: number } | null; regions: Map<string, number>;
} & News;

// the page

/** ``age`` of the picture [s]; ``drawn`` is the number of its frame. */
export type Situation = { connection: Connection; status: Status | null; age: number | null; paused: boolean; drawn: number | null };

export type Chosen = { track: number; site: number; sites: Sites; summary: Summary; looks: Map<number, ClassSummary> };

export type Card = {
  summary: ClassSummary; root: HTMLElement; image: HTMLImageElement; name: HTMLButtonElement; role: HTMLElement; meta: HTMLElement;
  title: HTMLElement; actions: HTMLElement; count: HTMLElement; spark: HTMLCanvasElement; error: HTMLElement;
  fetched: number; version: number; address: string;
};

export type Line = { class_id: number; name: string; colour: string; role: string };

export type Boundary = { time: number; label: string };

export type Courses = { times: number[]; counts: Map<number, (number | null)[]> };

export type ChartLook = { muted: string; grid: string; accent: string; warn: string; size: number };

/** A line over the times of a chart; ``fill`` reaches down to the axis, or over the ``band`` of two other courses. */
export type ChartLine = {
  values: (number | null)[]; colour: string; width?: number; dash?: number[]; axis?: number; fill?: string;
  band?: (number | null)[][];
};

export type ChartAxis = { label: string; low: number; high: number; format?: (value: number) => string };
