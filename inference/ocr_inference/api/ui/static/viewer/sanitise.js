// @ts-check
/**
 * HTML of a model as elements that can't do anything: no script, no handler, no link, no form, no style, nothing that loads.
 */

import "../vendor/purify.js";
import { TAGS } from "./tables.js";

/** Attributes, and what their values look like. */
const ATTRIBUTES = {
  align: /^(left|center|right)$/,
  class: /^(formula-(inline|display)|figure-cut)$/,
  colspan: /^\d{1,2}$/,
  rowspan: /^\d{1,2}$/,
  start: /^\d{1,9}$/,
  "data-lines": /^\d+-\d+$/,
  "data-xywh": /^\d{1,6}(,\d{1,6}){3}$/,
};
const CONFIG = {
  ALLOWED_TAGS: TAGS,
  ALLOWED_ATTR: Object.keys(ATTRIBUTES),
  ALLOW_DATA_ATTR: false,
  ALLOW_ARIA_ATTR: false,
  RETURN_DOM_FRAGMENT: true,
};

/** @type {any} */
const purify = /** @type {any} */ (globalThis).DOMPurify(globalThis);
purify.addHook("uponSanitizeAttribute", (/** @type {Element} */ _element, /** @type {any} */ attribute) => {
  const looks = /** @type {Record<string, RegExp>} */ (ATTRIBUTES)[attribute.attrName];
  if (looks && !looks.test(attribute.attrValue)) attribute.keepAttr = false;
});

/**
 * @param {string} html
 * @returns {DocumentFragment}
 */
export function harmless(html) {
  return purify.sanitize(html, CONFIG);
}
