// @ts-check
/**
 * The text that a body shows, and where in it each character is: what is searched and copied.
 */

/** Elements that stand on lines of their own. */
const BLOCKS = new Set("H1 H2 H3 H4 H5 H6 P BR HR DIV BLOCKQUOTE PRE CENTER UL OL LI DL DT DD TABLE CAPTION TR".split(" "));
/** Those after which a line stays empty. */
const APART = new Set("H1 H2 H3 H4 H5 H6 P UL OL TABLE PRE BLOCKQUOTE".split(" "));
const CELLS = new Set(["TD", "TH"]);

/**
 * @typedef {object} Visible
 * @property {string} text
 * @property {{node: Text | Element, start: number, skipped: number}[]} parts text nodes and formulae, where they begin in the text,
 *   and how many of their first characters aren't in it
 */

/**
 * Formulae are text as they were written, drawn or not.
 *
 * @param {Node} root
 * @returns {Visible}
 */
export function visible(root) {
  /** @type {Visible} */
  const made = { text: "", parts: [] };
  walk(root, made);
  made.text = made.text.trimEnd();
  return made;
}

/** @param {Node} node @param {Visible} made */
function walk(node, made) {
  if (node instanceof Text) {
    const kept = Boolean(node.parentElement?.closest("pre"));
    // Line breaks of the markup, not of the text: between blocks, and behind <br>.
    if (!kept && /^\s*\n\s*$/.test(node.data)) return;
    const skipped = !kept && node.data.startsWith("\n") && /(^|\n)$/.test(made.text) ? 1 : 0;
    made.parts.push({ node, start: made.text.length, skipped });
    made.text += node.data.slice(skipped);
    return;
  }
  const name = node.nodeName.toUpperCase();
  if (node instanceof Element && /^formula-/.test(node.className)) {
    made.parts.push({ node, start: made.text.length, skipped: 0 });
    made.text += (node.getAttribute("title") ?? node.textContent ?? "").trim();
    return;
  }
  if (BLOCKS.has(name) && made.text && !made.text.endsWith("\n")) made.text += "\n";
  if (CELLS.has(name) && node instanceof Element && node.previousElementSibling && !made.text.endsWith("\n")) made.text += "\t";
  for (const child of node.childNodes) walk(child, made);
  if (BLOCKS.has(name) && made.text && !made.text.endsWith("\n")) made.text += "\n";
  if (APART.has(name) && !made.text.endsWith("\n\n")) made.text += "\n";
}

/**
 * The range of a document for a range of the text; null where there is none.
 *
 * @param {Visible} shown
 * @param {{start: number, end: number}} match
 * @returns {Range | null}
 */
export function rangeOf({ parts }, { start, end }) {
  const first = parts.findLast((part) => part.start <= start);
  const last = parts.findLast((part) => part.start < end);
  if (!first || !last) return null;
  const range = document.createRange();
  if (first.node instanceof Text) range.setStart(first.node, Math.min(start - first.start + first.skipped, first.node.length));
  else range.setStartBefore(first.node);
  if (last.node instanceof Text) range.setEnd(last.node, Math.min(end - last.start + last.skipped, last.node.length));
  else range.setEndAfter(last.node);
  return range;
}
