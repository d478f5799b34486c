// @ts-check
/**
 * HTML within Markdown, as models write tables and small marks: written anew from what is known, so that nothing else is ever parsed.
 * Tags that aren't HTML's are text: a page may show `#include <stdio.h>`. Pure.
 */

/** Elements that a text may have. */
export const TAGS = [
  ...["h1", "h2", "h3", "h4", "h5", "h6", "p", "br", "hr", "div", "span", "blockquote", "pre", "code", "center"],
  ...["strong", "b", "em", "i", "u", "s", "del", "ins", "mark", "small", "sub", "sup"],
  ...["ul", "ol", "li", "dl", "dt", "dd"],
  ...["table", "caption", "colgroup", "col", "thead", "tbody", "tfoot", "tr", "th", "td"],
];
const KNOWN = new Set(TAGS);
/** Elements that go without a word; what they hold stays, as text. */
const DROPPED = new Set(["a", "img", "font", "html", "head", "body", "meta", "link", "figure", "figcaption", "section", "article", "svg", "label"]);

const TAG = /<(\/?)([a-zA-Z][a-zA-Z0-9]{0,15})((?:[\s/][^<>]{0,1000})?)>|<!--/g;
const ATTRIBUTE = /(?:^|[\s"'])(colspan|rowspan|align|start)\s{0,9}=\s{0,9}["']?([a-z0-9]{1,9})/gi;

/**
 * @param {string} html
 * @returns {string} HTML that has known elements, known attributes and text
 */
export function known(html) {
  let [made, from] = ["", 0];
  for (const found of html.matchAll(TAG)) {
    if (found.index < from) continue;
    made += text(html.slice(from, found.index));
    const [whole, slash, name, attributes] = found;
    from = found.index + whole.length;
    if (whole === "<!--") {
      const end = html.indexOf("-->", from - 2);
      from = end < 0 ? html.length : end + 3;
    } else made += tag(whole, slash, name.toLowerCase(), attributes);
  }
  return made + text(html.slice(from));
}

/** @param {string} whole @param {string} slash @param {string} name @param {string} attributes */
function tag(whole, slash, name, attributes) {
  if (!KNOWN.has(name)) return DROPPED.has(name) ? "" : text(whole);
  const kept = slash ? [] : [...attributes.matchAll(ATTRIBUTE)].map(([, key, value]) => ` ${key.toLowerCase()}="${value}"`);
  return `<${slash}${name}${kept.join("")}>`;
}

/** Text of HTML, whose named characters stay. @param {string} html */
function text(html) {
  return html.replaceAll("<", "&lt;").replaceAll(">", "&gt;");
}

const TABLE = /<table[\s>]|<\/table>/gi;

/**
 * Keep tables in Markdown whole: an empty line would end them, a comment on it doesn't. Lines keep their numbers.
 *
 * @param {string} markdown
 */
export function whole(markdown) {
  let [made, from, depth] = ["", 0, 0];
  for (const found of markdown.matchAll(TABLE)) {
    const part = markdown.slice(from, found.index);
    made += depth ? part.replace(/\n(?=[ \t]{0,80}\n)/g, "\n<!---->") : part;
    from = found.index;
    depth = Math.max(0, depth + (found[0].startsWith("</") ? -1 : 1));
  }
  return made + markdown.slice(from);
}
