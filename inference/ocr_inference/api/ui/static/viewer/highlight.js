// @ts-check
/** Matches of a term in the body that is shown, marked without touching its elements. */

import { find, folded } from "./matches.js";
import { bringInto } from "./overlay.js";
import { hits, match, matches, point, term } from "./state.js";
import { rangeOf, visible } from "./visible.js";

/**
 * Mark all matches on a page, and bring the chosen one into view, with its box.
 *
 * @param {HTMLElement} article
 * @param {string} pageId
 */
export function showMatches(article, pageId) {
  const highlights = /** @type {any} */ (globalThis).CSS?.highlights;
  const Mark = /** @type {any} */ (globalThis).Highlight;
  const shown = visible(article);
  const ranges = find(folded(shown.text), term.value).map((each) => rangeOf(shown, each));
  const chosen = matches.value[match.value];
  const range = chosen?.pageId === pageId ? ranges[chosen.ordinal] : null;
  hits.value = new Set(ranges.map((each) => (each ? boxOf(each) : -1)).filter((box) => box >= 0));
  if (highlights && Mark) {
    highlights.set("found", new Mark(...ranges.filter(Boolean)));
    highlights.set("found-chosen", new Mark(...(range ? [range] : [])));
  }
  if (!range) return;
  if (article.parentElement) bringInto(article.parentElement, /** @type {any} */ (range));
  // Where the text has no view of its own, it is the window that scrolls.
  startOf(range)?.scrollIntoView({ block: "nearest" });
  point(boxOf(range), "text");
}

/** The box of the part that a range begins in, or -1. @param {Range} range */
function boxOf(range) {
  const part = startOf(range)?.closest("[data-box]");
  return part ? Number(part.getAttribute("data-box")) : -1;
}

/** The element that a range begins in: of a formula, which is no text, the one around it. @param {Range} range */
function startOf({ startContainer }) {
  return startContainer instanceof Element ? startContainer : startContainer.parentElement;
}
