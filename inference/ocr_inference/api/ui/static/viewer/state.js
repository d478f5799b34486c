// @ts-check
/**
 * What the viewer shows and how: signals that only the viewer reads and changes. The pages are the store's.
 *
 * @typedef {import("./geometry.js").Zoom} Zoom
 * @typedef {"text" | "source" | "json"} Tab
 *
 * @typedef {object} Match of a term in text that was read
 * @property {string} pageId
 * @property {number} ordinal among the matches of its page, from 0
 * @property {{before: string, match: string, after: string}} excerpt
 *
 * @typedef {object} Located what the model found of a term on a page
 * @property {string} term
 * @property {"waiting" | "done" | "failed"} state
 * @property {import("../store.js").Box[]} boxes
 * @property {{w: number, h: number} | null} size
 * @property {string} text
 * @property {import("../store.js").Trouble | null} error
 */

import { computed, signal } from "../html.js";

/** @type {import("../html.js").Signal<Tab>} */
export const tab = signal("text");
/** @type {import("../html.js").Signal<Zoom>} */
export const zoom = signal(/** @type {Zoom} */ ("width"));
/** Whether boxes are drawn over the page. */
export const overlay = signal(true);
/** Number of the box that is pointed at, on the page or in the text; -1 is none. */
export const active = signal(-1);
/** Where the pointing is done, so that the other side scrolls. @type {import("../html.js").Signal<"page" | "text">} */
export const from = signal("page");
/** Boxes whose text has matches of the term. @type {import("../html.js").Signal<Set<number>>} */
export const hits = signal(new Set());
export const term = signal("");
/** @type {import("../html.js").Signal<Match[]>} */
export const matches = signal([]);
/** Whether pages are still searched. */
export const searching = signal(false);
/** Index of the match that is shown; -1 is none. */
export const match = signal(-1);
/** By the ids of pages. @type {import("../html.js").Signal<Map<string, Located>>} */
export const located = signal(new Map());
/** Those of them that are of the term that stands in the field. */
export const locatedNow = computed(() => new Map([...located.value].filter(([, each]) => each.term === term.value.trim())));

/** Point at a box. @param {number} box @param {"page" | "text"} side */
export function point(box, side) {
  from.value = side;
  active.value = box;
}

let [lastX, lastY] = [NaN, NaN];

/**
 * Whether the pointer itself moved: what scrolls below one that lies still isn't pointed at.
 *
 * @param {MouseEvent} event
 */
export function moved({ type, screenX, screenY }) {
  // Browsers round places anew for the event that a scrolled page causes.
  const is = !(Math.abs(screenX - lastX) < 2 && Math.abs(screenY - lastY) < 2);
  // Of one movement, what it leaves is told first.
  if (type === "mousemove") [lastX, lastY] = [screenX, screenY];
  return is;
}
