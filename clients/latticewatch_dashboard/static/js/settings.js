/** What a person set, kept in this browser, and carried by the link to this page. Nothing is stored before it is changed. */

const STORED = "latticewatch-settings";

const PLAIN = {
  theme: "dark", black: 0, white: 100, gamma: 1, map: "grey", range: 60, chart: "count",
  trails: false, locked: false, regions: true, defect: true, neighbour: true, host: false, unknown: true,
};

/** @typedef {typeof PLAIN} Values */

export class Settings {
  constructor() {
    const linked = new URLSearchParams(location.hash.slice(1));
    /** @type {Values} */
    this.values = { ...PLAIN, ...checked(stored()), ...checked(Object.fromEntries(linked)) };
    const [row, column, zoom] = (linked.get("at") ?? "").split(",").map(Number);
    /** The part of the frame and the track that the link is of. */
    this.at = zoom > 1 && Number.isFinite(row + column + zoom) ? { row, column, zoom } : null;
    this.track = Number(linked.get("track") ?? -1);
  }

  /** @param {Partial<Values>} change */
  set(change) {
    Object.assign(this.values, change);
    try {
      localStorage.setItem(STORED, JSON.stringify(this.values));
    } catch {
      // a browser that keeps nothing: the setting holds until the page is closed
    }
  }

  /**
   * Address of this page with all that differs from how it comes.
   * @param {{row: number, column: number, zoom: number} | null} at the part of the frame that is shown; null for all of it
   * @param {number} track that is chosen, or -1
   */
  link(at, track) {
    /** @type {[string, unknown][]} */
    const different = Object.entries(this.values).filter(([name, value]) => value !== PLAIN[/** @type {keyof Values} */ (name)]);
    if (at) different.push(["at", [at.row, at.column, at.zoom].map((one) => one.toFixed(2)).join()]);
    if (track >= 0) different.push(["track", track]);
    const url = new URL(location.href);
    url.hash = new URLSearchParams(different.map(([name, value]) => [name, String(value)])).toString();
    return String(url);
  }
}

function stored() {
  try {
    return JSON.parse(localStorage.getItem(STORED) ?? "{}");
  } catch {
    return {};
  }
}

/** Of what was stored or linked, what has a known name and the right kind. @param {Record<string, any>} found */
function checked(found) {
  /** @type {Record<string, any>} */
  const good = {};
  for (const [name, plain] of Object.entries(PLAIN)) {
    const value = found[name];
    if (value === undefined) continue;
    if (typeof plain === "boolean") good[name] = value === true || value === "true";
    else if (typeof plain === "number") {
      if (Number.isFinite(Number(value))) good[name] = Number(value);
    } else good[name] = String(value).slice(0, 80);
  }
  return good;
}
