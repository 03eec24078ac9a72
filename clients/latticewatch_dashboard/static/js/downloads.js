/** Files to keep: tables as CSV, with units in their headings, and whatever else is a blob. */

/** @import {LiveHeader} from "./types.d.ts" */

/** @param {Blob} blob @param {string} name */
export function save(blob, name) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}

/** A field as CSV has it; what a spreadsheet would take for a formula is kept from it. @param {unknown} value */
function field(value) {
  if (typeof value === "number") return Number.isFinite(value) ? String(value) : "";
  const text = String(value ?? "");
  const safe = /^[=+\-@\t\r]/.test(text) ? `'${text}` : text;
  return /[",\n]/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe;
}

/** @param {unknown[][]} rows the first are the headings @param {string} name */
export function saveTable(rows, name) {
  save(new Blob([rows.map((row) => row.map(field).join(",")).join("\n") + "\n"], { type: "text/csv" }), name);
}

/**
 * Sites of a frame as a table.
 * @param {import("./live/sites.js").Sites} sites
 * @param {LiveHeader} header
 * @param {Map<number, {name: string}>} looks
 */
export function sitesTable(sites, header, looks) {
  const nm = header.pixel_size_nm;
  const roles = ["host", "defect", "neighbour", "unknown"];
  const head = ["series", "frame", "row_px", "column_px", ...(nm ? ["x_nm", "y_nm"] : []), "class_id", "class", "role", "confidence", "track"];
  const rows = Array.from({ length: sites.length }, (_, i) => [
    header.series_id, header.frame, rounded(sites.row(i), 3), rounded(sites.column(i), 3),
    ...(nm ? [rounded(sites.column(i) * nm, 5), rounded(sites.row(i) * nm, 5)] : []),
    sites.classId[i], looks.get(sites.classId[i])?.name ?? "unknown", roles[sites.role[i]], rounded(sites.confidence[i], 5), sites.track[i],
  ]);
  return [head, ...rows];
}

/** @param {number} value @param {number} digits */
const rounded = (value, digits) => Number(value.toFixed(digits));
