/** The sites of one frame, grouped by what is drawn alike. */

/** @import {Section} from "../types.d.ts" */

export const HOST = 0;
export const DEFECT = 1;
export const NEIGHBOUR = 2;
export const UNKNOWN = 3;
export const ROLE_NAMES = ["host", "defect", "neighbour", "unknown"];

export class Sites {
  /** @param {Record<string, Section>} [arrays] sections of a live message */
  constructor(arrays = {}) {
    this.position = arrays.positions?.data ?? new Float32Array();
    this.classId = arrays.class_id?.data ?? new Int16Array();
    this.role = arrays.role?.data ?? new Uint8Array();
    this.track = arrays.track?.data ?? new Int32Array();
    this.confidence = arrays.confidence?.data ?? new Float32Array();
    this.length = this.classId.length;
    /** @type {Int32Array | null} defect beside each neighbour */
    this.beside = null;
    this.reach = 0;
    /** @type {Map<string, {classId: number, role: number, sites: number[]}>} */
    this.groups = new Map();
    for (let i = 0; i < this.length; i++) {
      const key = `${this.classId[i]}/${this.role[i]}`;
      let group = this.groups.get(key);
      if (!group) this.groups.set(key, (group = { classId: this.classId[i], role: this.role[i], sites: [] }));
      group.sites.push(i);
    }
  }

  /** @param {number} i */
  row(i) {
    return this.position[2 * i];
  }

  /** @param {number} i */
  column(i) {
    return this.position[2 * i + 1];
  }

  /**
   * The site nearest to a position, or -1 where none is within reach.
   * @param {number} row @param {number} column @param {number} reach [frame px]
   */
  nearest(row, column, reach) {
    let best = -1;
    let least = reach * reach;
    for (let i = 0; i < this.length; i++) {
      const distance = (this.row(i) - row) ** 2 + (this.column(i) - column) ** 2;
      if (distance <= least) {
        least = distance;
        best = i;
      }
    }
    return best;
  }

  /**
   * The defect nearest to a site, or -1 where none is within reach: a neighbour takes its hue.
   * @param {number} i @param {number} reach [frame px]
   */
  defectBeside(i, reach) {
    if (!this.beside || this.reach !== reach) this.measure(reach);
    return /** @type {Int32Array} */ (this.beside)[i];
  }

  /** Pair neighbours with defects once for each frame, by cells as wide as the reach. @param {number} reach */
  measure(reach) {
    this.reach = reach;
    this.beside = new Int32Array(this.length).fill(-1);
    /** @type {Map<number, number[]>} */
    const cells = new Map();
    const cell = (row, column) => Math.floor(row / reach) * 65536 + Math.floor(column / reach);
    for (let i = 0; i < this.length; i++) {
      if (this.role[i] !== DEFECT) continue;
      const key = cell(this.row(i), this.column(i));
      cells.set(key, [...(cells.get(key) ?? []), i]);
    }
    for (let i = 0; i < this.length; i++) {
      if (this.role[i] !== NEIGHBOUR) continue;
      let least = reach * reach;
      for (const down of [-reach, 0, reach]) {
        for (const right of [-reach, 0, reach]) {
          for (const j of cells.get(cell(this.row(i) + down, this.column(i) + right)) ?? []) {
            const distance = (this.row(i) - this.row(j)) ** 2 + (this.column(i) - this.column(j)) ** 2;
            if (distance <= least) {
              least = distance;
              this.beside[i] = j;
            }
          }
        }
      }
    }
  }

  /** The site of a track, or -1. @param {number} track */
  ofTrack(track) {
    return track < 0 ? -1 : this.track.indexOf(track);
  }

  /** Defects and unknown sites in reading order, for walking through them with the keyboard. */
  notable() {
    const found = [];
    for (let i = 0; i < this.length; i++) {
      if (this.role[i] === DEFECT || this.role[i] === UNKNOWN) found.push(i);
    }
    return found.sort((a, b) => this.row(a) - this.row(b) || this.column(a) - this.column(b));
  }
}
