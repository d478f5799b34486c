// @ts-check
/**
 * Markdown of a model as HTML that is made of known elements only. `sanitise.js` sees to it once more, and nothing else may take it.
 *
 * Elements carry `data-lines`, the lines of the source that they come from. Formulae are `<code class="formula-…">` with their TeX,
 * figures of the page `<span class="figure-cut" data-xywh>`. Links aren't links: whoever wrote the page chose where they lead.
 */

import MarkdownIt from "../vendor/markdown-it.mjs";
import { formulaAt, formulae } from "./formulas.js";
import { known, whole } from "./tables.js";

const FIGURE = /^#xywh=(\d{1,6},\d{1,6},\d{1,6},\d{1,6})$/;
/** Headings of the page stand below those of what is around it. */
const HEADINGS_ABOVE = 1;

/**
 * @param {string} text
 * @param {{formulas?: boolean}} [options] whether marks of formulae mean formulae; engines that find lines write none
 * @returns {string}
 */
export function toHtml(text, { formulas = true } = {}) {
  return parser(formulas).render(whole(text), { formulas });
}

/** @type {Map<boolean, any>} */
const parsers = new Map();

/** @param {boolean} formulas */
function parser(formulas) {
  const made = parsers.get(formulas);
  if (made) return made;
  const markdown = new /** @type {any} */ (MarkdownIt)({ html: true, linkify: false, breaks: true });
  // A line of dashes below a text is a rule on pages that were read, and what is set in is no code.
  markdown.disable(["lheading", "code", "reference"]);
  markdown.core.ruler.push("lines", lines);
  markdown.core.ruler.push("headings", headings);
  Object.assign(markdown.renderer.rules, { image, link_open: linkOpen, link_close: linkClose, html_block: htmlBlock, html_inline: htmlInline, math });
  if (formulas) {
    markdown.inline.ruler.before("escape", "math", inlineMath);
    markdown.block.ruler.before("fence", "math", blockMath, { alt: ["paragraph", "blockquote", "list"] });
  }
  parsers.set(formulas, markdown);
  return markdown;
}

/** @param {any} state */
function lines(state) {
  for (const token of state.tokens) {
    if (token.map && token.nesting >= 0 && !token.hidden) token.attrSet("data-lines", `${token.map[0]}-${token.map[1]}`);
    // The page's policy lets no element have a style of its own.
    const side = /^text-align:(left|center|right)$/.exec(token.attrGet("style") ?? "");
    if (side) token.attrs = [["align", side[1]]];
  }
}

/** No level of headings is left out, as those who hear a page expect. @param {any} state */
function headings(state) {
  let above = HEADINGS_ABOVE;
  for (const token of state.tokens) {
    if (token.type === "heading_open") above = Math.min(Number(token.tag[1]) + HEADINGS_ABOVE, above + 1, 6);
    if (token.type.startsWith("heading_")) token.tag = `h${above}`;
  }
}

// --- formulae -------------------------------------------------------------------------------------------------

/** @param {any} state @param {boolean} silent */
function inlineMath(state, silent) {
  const formula = formulaAt(state.src, state.pos);
  if (!formula || formula.end > state.posMax) return false;
  if (!silent) Object.assign(state.push("math", "", 0), { content: formula.tex, info: formula.display ? "display" : "" });
  state.pos = formula.end;
  return true;
}

/** A displayed formula on lines of its own: its lines are no list and no heading. */
function blockMath(/** @type {any} */ state, /** @type {number} */ line, /** @type {number} */ last, /** @type {boolean} */ silent) {
  const start = state.bMarks[line] + state.tShift[line];
  const formula = formulaAt(state.src, start);
  if (!formula?.display) return false;
  let end = line;
  while (end < last && state.eMarks[end] < formula.end) end++;
  if (end >= last || state.src.slice(formula.end, state.eMarks[end]).trim()) return false;
  if (silent) return true;
  const token = state.push("math", "", 0);
  Object.assign(token, { content: formula.tex, info: "display", block: true, map: [line, end + 1] });
  state.line = end + 1;
  return true;
}

/** @param {any[]} tokens @param {number} at */
function math(tokens, at) {
  const { content, info, map } = tokens[at];
  return formulaHtml(content, info === "display", map);
}

/** @param {string} tex @param {boolean} display @param {number[] | null} [map] */
function formulaHtml(tex, display, map) {
  const from = map ? ` data-lines="${map[0]}-${map[1]}"` : "";
  return `<code class="formula-${display ? "display" : "inline"}"${from}>${escaped(tex)}</code>`;
}

// --- what else is rendered in another way ------------------------------------------------------------------------

/** @param {any[]} tokens @param {number} at @param {any} _options @param {{formulas: boolean}} env */
function htmlBlock(tokens, at, _options, env) {
  const { content, map } = tokens[at];
  let [made, from] = ["", 0];
  for (const formula of env.formulas ? formulae(content) : []) {
    made += known(content.slice(from, formula.start)) + formulaHtml(unescaped(formula.tex), formula.display);
    from = formula.end;
  }
  return `<div data-lines="${map[0]}-${map[1]}">${made}${known(content.slice(from))}</div>\n`;
}

/** @param {any[]} tokens @param {number} at */
function htmlInline(tokens, at) {
  return known(tokens[at].content);
}

/** A part of the page by its place, else the words that stand for a picture. @param {any[]} tokens @param {number} at */
function image(tokens, at) {
  const place = FIGURE.exec(tokens[at].attrGet("src") ?? "");
  const words = escaped(tokens[at].content);
  return place ? `<span class="figure-cut" data-xywh="${place[1]}">${words}</span>` : words;
}

/** The address behind what it says, where that is another. @param {any[]} tokens @param {number} at */
function linkClose(tokens, at) {
  let open = at;
  for (let depth = 0; open >= 0; open--) {
    depth += tokens[open].type === "link_close" ? 1 : tokens[open].type === "link_open" ? -1 : 0;
    if (depth === 0) break;
  }
  const address = tokens[open]?.attrGet("href") ?? "";
  const said = tokens.slice(open + 1, at).map((token) => token.content).join("");
  return address && !address.startsWith("#") && decoded(address) !== said ? ` (${escaped(decoded(address))})` : "";
}

function linkOpen() {
  return "";
}

/** @param {string} address */
function decoded(address) {
  try {
    return decodeURI(address);
  } catch {
    return address;
  }
}

/** @param {string} text */
function escaped(text) {
  return text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;").replaceAll('"', "&quot;");
}

/** Of a formula in HTML, where `<` may be written as it is or not. @param {string} tex */
function unescaped(tex) {
  return tex.replaceAll("&lt;", "<").replaceAll("&gt;", ">").replaceAll("&quot;", '"').replaceAll("&amp;", "&");
}
