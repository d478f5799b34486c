// @ts-check
/**
 * Which part of the text belongs to which box: a page and its text are read side by side. Pure.
 *
 * @typedef {import("../store.js").Box} Box
 * @typedef {Pick<import("../store.js").Result, "text" | "raw_text" | "boxes" | "image_dims" | "metadata">} Result
 * @typedef {{start: number, end: number, box: number}} Link a range of the text and the number of its box
 */

import { parse, pixels } from "./tags.js";

/** Labels of pictures on a page. */
export const PICTURES = new Set(["image", "figure", "chart", "seal"]);

/**
 * The boxes of a page: those of the answer, else those that the model's own words name.
 *
 * @param {Result} result
 * @returns {Box[]}
 */
export function boxesOf(result) {
  const { boxes, raw_text, image_dims } = result;
  if (boxes.length || !image_dims) return boxes;
  const { w, h } = image_dims;
  return parse(raw_text).blocks.flatMap(({ label, places }) =>
    places.map((place) => ({ label, box: pixels(place, w, h) })),
  );
}

/**
 * Link boxes to ranges of the text, in the text's order and without overlaps. A box whose words aren't found has no link.
 *
 * @param {Result} result
 * @param {string} task
 * @param {Box[]} boxes as `boxesOf` gives them
 * @returns {Link[]}
 */
export function linked(result, task, boxes) {
  const { text } = result;
  const words = wordsOf(result, task, boxes);
  /** @type {Link[]} */
  const links = [];
  let at = 0;
  boxes.forEach((box, number) => {
    for (const wanted of words[number]) {
      const start = wanted ? text.indexOf(wanted, at) : -1;
      if (start < 0) continue;
      at = start + wanted.length;
      links.push({ start, end: at, box: number });
      return;
    }
  });
  return links;
}

/**
 * What may stand in the text for each box, the best first.
 *
 * @param {Result} result
 * @param {string} task
 * @param {Box[]} boxes
 * @returns {string[][]}
 */
function wordsOf(result, task, boxes) {
  const blocks = parse(result.raw_text).blocks.flatMap(({ label, places, text }) =>
    places.map((_, part) => ({ label, text: part ? "" : text.trim() })),
  );
  // Without a block for each box, labels are all that is known.
  const paired = blocks.length === boxes.length && blocks.every(({ label }, number) => label === boxes[number].label);
  return boxes.map(({ label, box: [x1, y1, x2, y2] }, number) => {
    const own = paired ? blocks[number].text : "";
    const [line] = own.split("\n", 1);
    const picture = PICTURES.has(label) ? [`![${label}](#xywh=${x1},${y1},${x2 - x1},${y2 - y1})`] : [];
    // In Markdown, a label says what kind of part it is; in lines, it is the text.
    return [...picture, own, line, ...(own || isMarkdown(result, task) ? [] : [label])];
  });
}

/** Engines that find lines: their text has no marks of Markdown but those that they mean, and no formulae. */
const LINE_ENGINES = new Set(["rapidocr"]);

/** Whether what looks like a formula in a page's text is one. @param {Result} result */
export function hasFormulas({ metadata }) {
  return !LINE_ENGINES.has(metadata?.engine);
}

/**
 * Whether a page's text is Markdown, as the server's files have it: where the task asks for it, and where a language model writes it
 * unasked. Else it is lines, which mean nothing but themselves.
 *
 * @param {Result} result
 * @param {string} task
 */
export function isMarkdown(result, task) {
  if (task === "ocr" || task === "find") return false;
  return task === "document" || hasFormulas(result);
}
