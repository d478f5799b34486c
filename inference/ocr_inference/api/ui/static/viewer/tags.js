// @ts-check
/**
 * Tags with which models mark places: `<|ref|>label<|/ref|><|det|>[[x1, y1, x2, y2], …]<|/det|>`.
 *
 * The same grammar as the server's `families/tags.py`, with its bounds: a test compares the two. What a model writes depends on
 * the page, so on its author: nothing is evaluated, and the time is linear in the text's length.
 *
 * @typedef {[number, number, number, number]} Place x1, y1, x2, y2
 * @typedef {{label: string, places: Place[], text: string}} Block a labelled place and the text that follows it
 */

/** Coordinates go from 0 to this, whatever the page's size. */
export const SCALE = 999;
const MAX_BOXES = 5000;
const MAX_LABEL = 500;
const MAX_PLACES = 20_000;

const TAG = /<\|(\/?ref|\/?det|grounding)\|>/;
const QUAD = String.raw`\[\d{1,4},\d{1,4},\d{1,4},\d{1,4}\]`;
const PLACES = new RegExp(`^\\[${QUAD}(?:,${QUAD})*\\]$`);
const UNFINISHED = /^\s*\[[\d[\],\s]*$/;
const CONTROLS =
  /\x1b\[[0-?]*[ -/]*[@-~]?|\x1b\][^\x07\x1b]{0,1000}(?:\x07|\x1b\\)?|[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\ufeff]/g;

/**
 * Parse blocks in the order in which they were written. Tags that don't pair up are left out, the text around them stays.
 *
 * @param {string} text
 * @returns {{before: string, blocks: Block[]}} `before` is ahead of the first block
 */
export function parse(text) {
  const parts = text.split(TAG); // text, tag, text, tag, …, text
  /** @type {{label: string, places: Place[]}[]} */
  const heads = [];
  const texts = [[parts[0]]];
  let boxes = 0;
  for (let at = 1; at < parts.length; ) {
    const tag = parts[at];
    const last = texts[texts.length - 1];
    if (isBlock(parts, at)) {
      const found = places(parts[at + 5]).slice(0, MAX_BOXES - boxes);
      boxes += found.length;
      heads.push({ label: words(clean(cut(parts[at + 1], MAX_LABEL))), places: found });
      texts.push([parts[at + 7]]);
      at += 8;
    } else if (tag === "det" && parts[at + 2] === "/det") {
      last.push(parts[at + 3]);
      at += 4;
    } else {
      last.push(tag === "det" && UNFINISHED.test(parts[at + 1]) ? "" : parts[at + 1]);
      at += 2;
    }
  }
  const [before, ...rest] = texts.map((pieces) => clean(pieces.join("")));
  return { before, blocks: heads.map((head, number) => ({ ...head, text: rest[number] })) };
}

/** @param {string[]} parts @param {number} at */
function isBlock(parts, at) {
  return (
    parts[at] === "ref" &&
    parts[at + 2] === "/ref" &&
    parts[at + 3].trim() === "" &&
    parts[at + 4] === "det" &&
    parts[at + 6] === "/det"
  );
}

/**
 * Parse `[[x1, y1, x2, y2], …]`; all or nothing, except that places with numbers beyond the scale are left out.
 *
 * @param {string} text
 * @returns {Place[]}
 */
export function places(text) {
  if (text.length > MAX_PLACES || /\d\s+\d/.test(text)) return [];
  const dense = text.replace(/\s+/g, "");
  if (!PLACES.test(dense)) return [];
  const numbers = (dense.match(/\d+/g) ?? []).map(Number);
  const found = [];
  for (let at = 0; at < numbers.length; at += 4) {
    const quad = numbers.slice(at, at + 4);
    if (Math.max(...quad) <= SCALE + 1) found.push(ordered(quad.map((value) => Math.min(value, SCALE))));
  }
  return found;
}

/** @param {number[]} quad @returns {Place} */
function ordered([x1, y1, x2, y2]) {
  return [Math.min(x1, x2), Math.min(y1, y2), Math.max(x1, x2), Math.max(y1, y2)];
}

/**
 * Convert a place to pixels of the page, rounded as the server does: a half to the even number.
 *
 * @param {Place} place
 * @param {number} width
 * @param {number} height
 * @returns {Place}
 */
export function pixels([x1, y1, x2, y2], width, height) {
  return [round(x1 * width), round(y1 * height), round(x2 * width), round(y2 * height)];
}

/** @param {number} scaled a coordinate times the page's side */
function round(scaled) {
  const value = scaled / SCALE;
  const below = Math.floor(value);
  const rest = value - below;
  if (rest === 0.5) return below % 2 ? below + 1 : below;
  return rest > 0.5 ? below + 1 : below;
}

/** Remove characters that terminals or browsers act upon; line breaks and tabs stay. @param {string} text */
export function clean(text) {
  return text.replaceAll("\r\n", "\n").replace(CONTROLS, "");
}

/** The first characters of a text, none of them halved. @param {string} text @param {number} most */
function cut(text, most) {
  return text.length <= most ? text : Array.from(text.slice(0, 2 * most)).slice(0, most).join("");
}

/** @param {string} text */
function words(text) {
  return text.split(/\s+/).filter(Boolean).join(" ");
}
