// @ts-check
/** Search in the text of all pages that have been read. */

import { effect } from "../html.js";
import { bodyOf } from "./body.js";
import { excerpt, find, folded, MOST } from "./matches.js";
import { match, matches, point, searching, term } from "./state.js";
import { visible } from "./visible.js";

/** Milliseconds without a key before the pages are searched, and of work before the browser has its turn. */
const PAUSE = 150;
const TURN = 12;

/** What is known of a page's text, for as long as the text is there. @type {WeakMap<object, {text: string, folded: import("./matches.js").Folded}>} */
const known = new WeakMap();

/** @param {import("../store.js").Reading} reading */
function textOf({ result, asked }) {
  if (!result) return null;
  const had = known.get(result);
  if (had) return had;
  const { text } = visible(bodyOf(result, asked.task));
  const made = { text, folded: folded(text) };
  known.set(result, made);
  return made;
}

/**
 * Search whenever the term or the pages change; returns what ends it.
 *
 * @param {typeof import("../store.js")} store
 */
export function followTerm(store) {
  let turn = 0;
  return effect(() => {
    const [wanted, pages] = [term.value.trim(), store.pages.value];
    const mine = ++turn;
    if (!wanted) {
      matches.value = [];
      if (match.peek() >= 0) point(-1, "text");
      match.value = -1;
      searching.value = false;
      return undefined;
    }
    searching.value = true;
    const timer = setTimeout(() => void search(store, pages, wanted, () => mine === turn), PAUSE);
    return () => clearTimeout(timer);
  });
}

/**
 * @param {typeof import("../store.js")} store
 * @param {import("../store.js").Page[]} pages
 * @param {string} wanted
 * @param {() => boolean} isWanted whether it still is
 */
async function search(store, pages, wanted, isWanted) {
  /** @type {import("./state.js").Match[]} */
  const found = [];
  let began = performance.now();
  for (const page of pages) {
    const reading = store.shownReading(page);
    const page_ = reading && textOf(reading);
    if (!page_) continue;
    find(page_.folded, wanted).forEach((range, ordinal) => {
      if (found.length < MOST) found.push({ pageId: page.id, ordinal, excerpt: excerpt(page_.text, range) });
    });
    if (performance.now() - began < TURN) continue;
    await new Promise((resolve) => setTimeout(resolve));
    if (!isWanted()) return;
    began = performance.now();
  }
  const old = matches.peek()[match.peek()];
  match.value = found.findIndex((each) => each.pageId === old?.pageId && each.ordinal === old.ordinal);
  if (old && match.peek() < 0) point(-1, "text"); // its box, too
  matches.value = found;
  searching.value = false;
}

/**
 * Show a match: its page, its place in the text, its box.
 *
 * @param {typeof import("../store.js")} store
 * @param {number} index
 */
export function choose(store, index) {
  const chosen = matches.value[index];
  if (!chosen) return;
  // One that is chosen again is shown again.
  if (match.value === index) matches.value = [...matches.value];
  match.value = index;
  store.currentId.value = chosen.pageId;
}
