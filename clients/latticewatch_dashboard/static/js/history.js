/** Counts of the last frames, by class, in rings of fixed size. */

const MAX_CLASSES = 128;

export class CountHistory {
  /** @param {number} capacity frames kept */
  constructor(capacity = 600) {
    this.capacity = capacity;
    this.length = 0;
    this.next = 0;
    this.time = new Float64Array(capacity);
    /** @type {Map<number, Float32Array>} */
    this.counts = new Map();
  }

  clear() {
    this.length = 0;
    this.next = 0;
    this.counts.clear();
  }

  /**
   * @param {number} time seconds
   * @param {Iterable<{class_id: number, n: number}>} byClass
   */
  push(time, byClass) {
    const slot = this.next;
    this.time[slot] = time;
    for (const ring of this.counts.values()) ring[slot] = 0;
    for (const { class_id: id, n } of byClass) {
      let ring = this.counts.get(id);
      if (!ring) {
        if (this.counts.size >= MAX_CLASSES) continue;
        ring = new Float32Array(this.capacity);
        this.counts.set(id, ring);
      }
      ring[slot] = n;
    }
    this.next = (slot + 1) % this.capacity;
    this.length = Math.min(this.length + 1, this.capacity);
  }

  /** What comes next does not continue what was before: another series, another model. */
  boundary() {
    if (!this.length || Number.isNaN(this.time[this.slot(this.length - 1)])) return;
    this.push(NaN, [...this.counts.keys()].map((id) => ({ class_id: id, n: NaN })));
  }

  /**
   * Put earlier counts in front of those that are here.
   * @param {number[]} times seconds, rising
   * @param {{class_id: number, mean: number[]}[]} courses of each class, at these times
   */
  precede(times, courses) {
    const kept = Array.from({ length: this.length }, (_, i) => {
      const slot = this.slot(i);
      const byClass = [...this.counts].map(([id, ring]) => ({ class_id: id, n: ring[slot] }));
      return /** @type {const} */ ([this.time[slot], byClass]);
    });
    this.clear();
    times.forEach((time, i) => {
      if (kept.length && time >= kept[0][0] - 1e-6) return;
      this.push(time, courses.map(({ class_id: id, mean }) => ({ class_id: id, n: mean[i] })));
    });
    for (const [time, byClass] of kept) this.push(time, byClass);
  }

  /** Time of the newest frame [s], or 0. */
  get newest() {
    for (let i = this.length - 1; i >= 0; i--) if (Number.isFinite(this.time[this.slot(i)])) return this.time[this.slot(i)];
    return 0;
  }

  /** Ring index of the i-th oldest frame. @param {number} i */
  slot(i) {
    return (this.next - this.length + i + this.capacity) % this.capacity;
  }

  /** Forget classes that were merged away. @param {Set<number>} ids */
  keepOnly(ids) {
    for (const id of this.counts.keys()) if (!ids.has(id)) this.counts.delete(id);
  }
}
