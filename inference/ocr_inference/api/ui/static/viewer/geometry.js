// @ts-check
/**
 * Zoom: how large a page is shown, and where it is scrolled to.
 *
 * A scale is CSS pixels for each pixel of the page. Pure.
 *
 * @typedef {{w: number, h: number}} Size
 * @typedef {{x: number, y: number}} Point
 * @typedef {"width" | "page" | number} Zoom fitted to the view, or a scale
 */

export const STEPS = [0.1, 0.25, 0.33, 0.5, 0.67, 0.75, 0.9, 1, 1.1, 1.25, 1.5, 2, 3, 4, 6, 8];
export const [SMALLEST, LARGEST] = [STEPS[0], STEPS[STEPS.length - 1]];

/**
 * The scale of a zoom. A page that is fitted isn't made larger than its pixels times two: a stamp stays a stamp.
 *
 * @param {Zoom} zoom
 * @param {Size} page in its own pixels
 * @param {Size} view what is free for it, in CSS pixels
 */
export function scaleOf(zoom, page, view) {
  if (typeof zoom === "number") return clamp(zoom);
  const across = view.w / Math.max(1, page.w);
  const scale = zoom === "width" ? across : Math.min(across, view.h / Math.max(1, page.h));
  return Math.max(0.01, Math.min(scale, 2));
}

/** @param {number} scale */
export function clamp(scale) {
  return Number.isFinite(scale) ? Math.max(SMALLEST, Math.min(scale, LARGEST)) : 1;
}

/**
 * The next step up (1) or down (-1) from a scale that may lie between two.
 *
 * @param {number} scale
 * @param {1 | -1} direction
 */
export function stepped(scale, direction) {
  // What was fitted is seldom a step: a hair's breadth is none.
  const near = 0.002;
  if (direction > 0) return STEPS.find((step) => step > scale * (1 + near)) ?? LARGEST;
  return STEPS.findLast((step) => step < scale * (1 - near)) ?? SMALLEST;
}

/**
 * Where to scroll so that what is under a point stays under it.
 *
 * @param {Point} scroll
 * @param {Point} point in the view
 * @param {number} from the scale before
 * @param {number} to the scale after
 * @returns {Point}
 */
export function scrolled(scroll, point, from, to) {
  const ratio = to / from;
  return {
    x: Math.max(0, (scroll.x + point.x) * ratio - point.x),
    y: Math.max(0, (scroll.y + point.y) * ratio - point.y),
  };
}

/**
 * Where a box lies in the picture, in percent of its sides: right at any zoom, and whatever pixels the picture has.
 *
 * @param {readonly number[]} box x1, y1, x2, y2 in pixels of the page
 * @param {Size} page the page's size in the same pixels
 */
export function placed([x1, y1, x2, y2], page) {
  const left = part(x1, page.w);
  const top = part(y1, page.h);
  return { left, top, width: part(x2, page.w) - left, height: part(y2, page.h) - top };
}

/** @param {number} value @param {number} side */
function part(value, side) {
  return Math.max(0, Math.min((100 * value) / Math.max(1, side), 100));
}
