/** Numbers as people read them, each with its unit. A missing value is an en dash, never a zero. */

const MISSING = "–";
const grouped = new Intl.NumberFormat("en-GB");
const clockFormat = new Intl.DateTimeFormat("en-GB", {
  hour: "2-digit", minute: "2-digit", second: "2-digit", hour12: false,
});

/** @param {unknown} value @returns {value is number} */
const present = (value) => typeof value === "number" && Number.isFinite(value);

/** @param {number | null | undefined} value */
export const integer = (value) => (present(value) ? grouped.format(Math.round(value)) : MISSING);

/** So many of something: 1 frame, 1,200 frames. @param {number | null | undefined} n @param {string} noun @param {string} [plural] */
export const several = (n, noun, plural = `${noun}s`) => `${integer(n)} ${n === 1 ? noun : plural}`;

/** @param {number | null | undefined} value @param {number} digits */
export function fixed(value, digits) {
  if (!present(value)) return MISSING;
  const text = Math.abs(value) < 999.5 ? value.toFixed(digits) : value.toLocaleString("en-GB", { minimumFractionDigits: digits, maximumFractionDigits: digits });
  return text.replace("-", "−");
}

/** Three significant figures: 0.316, 4.71, 27.2, 158. @param {number | null | undefined} value */
export function significant(value) {
  if (!present(value)) return MISSING;
  const size = Math.abs(value);
  return fixed(value, size >= 99.95 ? 0 : size >= 9.995 ? 1 : size >= 0.9995 ? 2 : 3);
}

/** @param {number | null | undefined} share between 0 and 1 */
export function percent(share) {
  if (!present(share)) return MISSING;
  // "100 %" would claim a certainty that no classifier has; in single precision it comes as 1.
  if (share > 0.999) return "> 99.9 %";
  return `${fixed(100 * share, share < 0.0005 ? 0 : 1)} %`;
}

/** An age as it is written large. @param {number | null | undefined} seconds */
export function age(seconds) {
  if (!present(seconds)) return MISSING;
  if (seconds < 9.95) return `${fixed(Math.max(0, seconds), 1)} s`;
  if (seconds < 120) return `${fixed(seconds, 0)} s`;
  if (seconds < 7200) return `${fixed(seconds / 60, 0)} min`;
  return `${fixed(seconds / 3600, 0)} h`;
}

/** Time of day of an RFC 3339 instant, in the viewer's zone. @param {string} instant */
export function clock(instant) {
  const date = new Date(instant);
  return Number.isNaN(date.getTime()) ? MISSING : clockFormat.format(date);
}

/**
 * The largest 1, 2 or 5 times a power of ten that is not above `limit`.
 * @param {number} limit
 */
export function roundLength(limit) {
  const decade = 10 ** Math.floor(Math.log10(limit));
  const step = [5, 2, 1].find((factor) => factor * decade <= limit * (1 + 1e-9)) ?? 1;
  return step * decade;
}

/** A round length without trailing zeros: 0.5, 2, 10. @param {number} value */
export const plain = (value) => String(Number(value.toPrecision(6)));

/** With an exponent as it is printed: 3.4 × 10⁶. @param {number} value @param {number} [digits] behind the point */
export function scientific(value, digits = 1) {
  const [factor, exponent] = value.toExponential(digits).split("e");
  const raised = [...String(Number(exponent))].map((sign) => (sign === "-" ? "⁻" : "⁰¹²³⁴⁵⁶⁷⁸⁹"[Number(sign)])).join("");
  return digits ? `${factor} × 10${raised}` : `${factor}·10${raised}`;
}
