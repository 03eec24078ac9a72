/** How often something happens, over time: events in equal stretches of it, each rate with its interval of confidence. */

const STRETCHES = [5, 20];  // at least and at most
const EVENTS = 6;  // in a stretch, where there are enough of them: of fewer the interval is as wide as the chart
const TAIL = 0.025;  // on either side: 95 % are between
const Z = 1.959964;
const MANY = 50;  // from here on the approximation is right to 0.1 %

/** How probable at most n events are where mu are expected. @param {number} n @param {number} mu */
function atMost(n, mu) {
  let [term, sum] = [Math.exp(-mu), 0];
  for (let k = 0; k <= n; k++) {
    sum += term;
    term *= mu / (k + 1);
  }
  return sum;
}

/** The number of which at most n events are so probable. @param {number} n @param {number} probability */
function expected(n, probability) {
  let [low, high] = [0, n + 20 + 6 * Math.sqrt(n + 1)];
  for (let i = 0; i < 50; i++) {
    const middle = (low + high) / 2;
    if (atMost(n, middle) > probability) low = middle;
    else high = middle;
  }
  return low;
}

/**
 * Interval of the number expected where n events were counted (Garwood 1936; of many, Wilson and Hilferty 1931).
 * @param {number} n @returns {[number, number]}
 */
export function interval(n) {
  const many = (/** @type {number} */ k, /** @type {number} */ z) => k * (1 - 1 / (9 * k) + z / (3 * Math.sqrt(k))) ** 3;
  if (n >= MANY) return [many(n, -Z), many(n + 1, Z)];
  return [n ? expected(n - 1, 1 - TAIL) : 0, expected(n, TAIL)];
}

/**
 * Rates per minute, in stretches of the time from low to high; a stretch that was hardly watched has none.
 * @param {{end: number[], watched_s?: number[], events: Record<string, number[]>}} past @param {string} kind of events
 * @param {number} low @param {number} high [s]
 * @returns {{times: number[], rate: (number | null)[], least: (number | null)[], most: (number | null)[]}}
 */
export function ratesOver({ end, watched_s: watched = [], events }, kind, low, high) {
  const inside = end.map((time) => time >= low);
  const total = end.reduce((sum, _, i) => sum + (inside[i] ? (events[kind]?.[i] ?? 0) : 0), 0);
  const frames = inside.filter(Boolean).length;  // of a slow scan there are few
  const n = Math.max(1, Math.min(frames, STRETCHES[1], Math.max(STRETCHES[0], Math.round(total / EVENTS))));
  const width = (high - low) / n;
  const seconds = new Array(n).fill(0);
  const counts = new Array(n).fill(0);
  end.forEach((time, i) => {
    const at = Math.min(n - 1, Math.floor((time - low) / width));
    if (at < 0) return;
    seconds[at] += watched[i] ?? 0;
    counts[at] += events[kind]?.[i] ?? 0;
  });
  /** @param {(n: number) => number} of */
  const rates = (of) => counts.map((one, i) => (seconds[i] > width / 3 ? (60 * of(one)) / seconds[i] : null));
  return {
    times: counts.map((_, i) => low + (i + 0.5) * width),
    rate: rates((one) => one), least: rates((one) => interval(one)[0]), most: rates((one) => interval(one)[1]),
  };
}
