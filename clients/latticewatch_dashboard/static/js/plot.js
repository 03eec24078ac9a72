// @ts-check
/** What the small plots share: colours of their axes and round tick values. */

export const AXIS = "#8b97a8";
export const GRID = "#1f2733";
export const FONT = '11px Inter, "Segoe UI", Roboto, "Liberation Sans", Arial, sans-serif';

/**
 * Round ticks from 0 up to at least `top`.
 * @param {number} top @param {number} wanted about how many steps
 */
export function ticksTo(top, wanted) {
  const rough = Math.max(top, 1e-9) / wanted;
  const decade = 10 ** Math.floor(Math.log10(rough));
  const step = ([1, 2, 5, 10].find((factor) => factor * decade >= rough) ?? 10) * decade;
  const ticks = [];
  for (let i = 0; i <= Math.ceil(top / step - 1e-9); i++) ticks.push(i * step);
  return ticks;
}
