// @ts-check
/**
 * Search in text that has been read: whatever its case, its spacing, its width. Pure.
 *
 * @typedef {{start: number, end: number}} Range of a text, in UTF-16 code units
 * @typedef {{plain: string, starts: number[], ends: number[]}} Folded
 */

/** Matches of a text that are listed. */
export const MOST = 500;
/** Characters on either side. */
const CONTEXT = 48;

/**
 * Fold a text to what is compared, with the place in the text of each code unit of it.
 *
 * @param {string} text
 * @returns {Folded}
 */
export function folded(text) {
  let plain = "";
  /** @type {number[]} */
  const starts = [];
  /** @type {number[]} */
  const ends = [];
  let at = 0;
  for (const character of text) {
    const units = character.normalize("NFKC").toUpperCase().toLowerCase().replace(/\s+/g, "");
    for (let unit = 0; unit < units.length; unit++) {
      starts.push(at);
      ends.push(at + character.length);
    }
    plain += units;
    at += character.length;
  }
  return { plain, starts, ends };
}

/**
 * Find a term in a text, from its beginning, without overlaps, the first `MOST` ones.
 *
 * @param {Folded} text
 * @param {string} term
 * @returns {Range[]}
 */
export function find({ plain, starts, ends }, term) {
  const wanted = folded(term).plain;
  if (!wanted) return [];
  const found = [];
  for (let at = plain.indexOf(wanted); at >= 0 && found.length < MOST; at = plain.indexOf(wanted, at + wanted.length))
    found.push({ start: starts[at], end: ends[at + wanted.length - 1] });
  return found;
}

/**
 * A match with a little of what is around it, on one line.
 *
 * @param {string} text
 * @param {Range} match
 */
export function excerpt(text, { start, end }) {
  const first = text.lastIndexOf("\n", start - 1) + 1;
  const newline = text.indexOf("\n", end);
  const last = newline < 0 ? text.length : newline;
  const before = text.slice(Math.max(first, start - CONTEXT), start);
  const after = text.slice(end, Math.min(last, end + CONTEXT));
  return {
    // Words that are cut are left out; where there are no spaces, characters do.
    before: line(start - CONTEXT > first ? `…${before.replace(/^\S{1,15}\s/, "")}` : before),
    match: line(text.slice(start, end)),
    after: line(end + CONTEXT < last ? `${after.replace(/\s\S{1,15}$/, "")}…` : after),
  };
}

/** @param {string} part */
function line(part) {
  return part.replace(/\s+/g, " ");
}
