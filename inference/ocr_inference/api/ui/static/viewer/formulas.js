// @ts-check
/**
 * Formulae in text, as models write them: `\( \)`, `\[ \]`, `$$ $$`, `$ $`, `\begin{align} … \end{align}`. Pure.
 *
 * @typedef {{start: number, end: number, tex: string, display: boolean}} Formula
 */

/** Characters of a formula. A longer one is left as text, so that an opening mark without its end costs little. */
export const LONGEST = 4000;
const ENVIRONMENT = /^\\begin\{((?:equation|align|aligned|gather|gathered|multline|eqnarray|split|cases|[bpvV]?matrix|array)\*?)\}/;
/** What tells a formula in single dollars from two prices. */
const TELLING = /[\\^_=<>+{}]|^\s*[A-Za-z]\s*$/;

/**
 * The formula that begins at a place of the text, if one does.
 *
 * @param {string} text
 * @param {number} start
 * @returns {Formula | null}
 */
export function formulaAt(text, start) {
  const next = text[start + 1];
  if (text[start] === "\\") {
    if (next === "(") return closed(text, start, 2, "\\)", false);
    if (next === "[") return closed(text, start, 2, "\\]", true);
    return next === "b" ? environment(text, start) : null;
  }
  if (text[start] !== "$" || text[start - 1] === "$") return null;
  if (next === "$") return closed(text, start, 2, "$$", true);
  const found = closed(text, start, 1, "$", false);
  if (!found || /^\s|\s$/.test(found.tex) || /\d/.test(text[found.end] ?? "")) return null;
  return TELLING.test(found.tex) && !found.tex.includes("\n") ? found : null;
}

/**
 * All formulae of a text, in order.
 *
 * @param {string} text
 * @returns {Formula[]}
 */
export function formulae(text) {
  const found = [];
  for (let at = 0; at < text.length; at++) {
    if (text[at] !== "\\" && text[at] !== "$") continue;
    const formula = formulaAt(text, at);
    if (formula) found.push(formula);
    if (formula) at = formula.end - 1;
    else if (text[at] === "\\") at++; // whatever is escaped begins nothing
  }
  return found;
}

/**
 * @param {string} text
 * @param {number} start
 * @param {number} opening characters of the mark
 * @param {string} closing
 * @param {boolean} display
 * @returns {Formula | null}
 */
function closed(text, start, opening, closing, display) {
  const most = Math.min(text.length, start + opening + LONGEST);
  for (let at = start + opening; at < most; at++) {
    if (text.startsWith(closing, at)) {
      const tex = text.slice(start + opening, at);
      return tex.trim() ? { start, end: at + closing.length, tex, display } : null;
    }
    if (text[at] === "\\") at++; // `\\` and `\$` end nothing
  }
  return null;
}

/** @param {string} text @param {number} start @returns {Formula | null} */
function environment(text, start) {
  const opened = ENVIRONMENT.exec(text.slice(start, start + 40));
  if (!opened) return null;
  const closing = `\\end{${opened[1]}}`;
  const at = text.slice(start, start + LONGEST).indexOf(closing);
  if (at < 0) return null;
  const end = start + at + closing.length;
  return { start, end, tex: text.slice(start, end), display: true };
}
