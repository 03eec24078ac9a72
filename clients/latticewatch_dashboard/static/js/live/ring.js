/** The frames of the last minutes as they came, bounded in bytes: for pausing, stepping back and looking again. */

/** @import {Course, Frame} from "../types.d.ts" */

export class Ring {
  /** @param {number} maxBytes */
  constructor(maxBytes) {
    this.maxBytes = maxBytes;
    /** @type {Frame[]} oldest first */
    this.frames = [];
    this.nbytes = 0;
  }

  /** Keep a frame; one that came before with the same number is replaced. @param {Frame} frame */
  push(frame) {
    const last = this.frames[this.frames.length - 1];
    if (last && last.header.t_received === frame.header.t_received) {
      this.frames.pop();
      this.nbytes -= last.nbytes;
    }
    this.frames.push(frame);
    this.nbytes += frame.nbytes;
    while (this.nbytes > this.maxBytes && this.frames.length > 1) {
      this.nbytes -= /** @type {Frame} */ (this.frames.shift()).nbytes;
    }
  }

  get length() {
    return this.frames.length;
  }

  /** Index of the frame nearest to a time. @param {number} time seconds since 1970 */
  nearest(time) {
    let best = this.frames.length - 1;
    let least = Infinity;
    for (let i = 0; i < this.frames.length; i++) {
      const distance = Math.abs((this.frames[i].header.t_received ?? 0) - time);
      if (distance <= least) {
        least = distance;
        best = i;
      }
    }
    return best;
  }

  /** @param {Frame | null} frame */
  indexOf(frame) {
    return frame ? this.frames.indexOf(frame) : -1;
  }

  /** Times of the oldest and the newest frame [s]. @returns {[number, number] | null} */
  get span() {
    if (!this.frames.length) return null;
    const time = (one) => one.header.t_received ?? 0;
    return [time(this.frames[0]), time(this.frames[this.frames.length - 1])];
  }

  /**
   * A track through the frames that are here.
   * @param {number} track @param {string | null} series
   * @returns {{time: number[], frame: number[], classId: number[], role: number[], confidence: number[], row: number[], column: number[]}}
   */
  course(track, series) {
    /** @type {Course} */
    const course = { time: [], frame: [], classId: [], role: [], confidence: [], row: [], column: [] };
    for (const { header, sites } of this.frames) {
      if (header.series_id !== series) continue;
      const i = sites.ofTrack(track);
      if (i < 0) continue;
      course.time.push(header.t_received ?? 0);
      course.frame.push(header.frame ?? -1);
      course.classId.push(sites.classId[i]);
      course.role.push(sites.role[i]);
      course.confidence.push(sites.confidence[i]);
      course.row.push(sites.row(i));
      course.column.push(sites.column(i));
    }
    return course;
  }
}
