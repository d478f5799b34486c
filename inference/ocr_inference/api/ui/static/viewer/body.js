// @ts-check
/**
 * A page's text as elements: Markdown as what it means, lines as they are. Parts that have a box on the page carry its number,
 * `data-box`.
 *
 * @typedef {import("../store.js").Box} Box
 * @typedef {import("../store.js").Result} Result
 * @typedef {import("./links.js").Link} Link
 */

import { t } from "../i18n.js";
import { boxesOf, hasFormulas, isMarkdown, linked } from "./links.js";
import { toHtml } from "./markdown.js";
import { harmless } from "./sanitise.js";

/**
 * Make the body of a page: new elements each time.
 *
 * @param {Result} result
 * @param {string} task
 * @returns {DocumentFragment}
 */
export function bodyOf(result, task) {
  const links = linked(result, task, boxesOf(result));
  return isMarkdown(result, task) ? rich(result, links) : plain(result.text, links);
}

/** @param {Result} result @param {Link[]} links */
function rich(result, links) {
  const body = harmless(toHtml(result.text, { formulas: hasFormulas(result) }));
  const starts = lineStarts(result.text);
  for (const element of body.children) number(element, links, starts);
  for (const table of body.querySelectorAll("table")) {
    // Wider than a phone: scrolled by keyboard, too.
    const scroller = Object.assign(document.createElement("div"), { className: "wide", tabIndex: 0, role: "region", ariaLabel: t("viewer.kind.table") });
    table.replaceWith(scroller);
    scroller.append(table);
  }
  return body;
}

/**
 * Give an element the box that its lines belong to; where they belong to several, its parts have theirs.
 *
 * @param {Element} element
 * @param {Link[]} links
 * @param {number[]} starts
 */
function number(element, links, starts) {
  const lines = /^(\d+)-(\d+)$/.exec(element.getAttribute("data-lines") ?? "");
  const inner = [...element.querySelectorAll("[data-lines]")];
  if (!lines) return;
  const start = starts[Number(lines[1])] ?? Infinity;
  const end = starts[Number(lines[2])] ?? Infinity;
  const own = links.filter((link) => link.start < end && start < link.end);
  if (own.length === 1 || (own.length && !inner.length)) element.setAttribute("data-box", String(own[0].box));
  else if (own.length) for (const part of inner) if (part.parentElement?.closest("[data-lines]") === element) number(part, own, starts);
}

/** @param {string} text */
function lineStarts(text) {
  const starts = [0];
  for (let at = text.indexOf("\n"); at >= 0; at = text.indexOf("\n", at + 1)) starts.push(at + 1);
  return starts;
}

/** @param {string} text @param {Link[]} links */
function plain(text, links) {
  const fragment = document.createDocumentFragment();
  const body = fragment.appendChild(document.createElement("pre"));
  let at = 0;
  for (const { start, end, box } of links) {
    body.append(text.slice(at, start));
    const part = document.createElement("span");
    part.append(text.slice(start, end));
    part.setAttribute("data-box", String(box));
    body.append(part);
    at = end;
  }
  body.append(text.slice(at));
  return fragment;
}

/**
 * Put the parts of the page that are pictures where the text has them.
 *
 * @param {DocumentFragment | Element} root
 * @param {CanvasImageSource & {width: number, height: number}} picture of the page
 * @param {{w: number, h: number}} size in whose pixels places are
 */
export function placeFigures(root, picture, size) {
  for (const cut of root.querySelectorAll("span.figure-cut[data-xywh]")) {
    const made = figure(picture, size, (cut.getAttribute("data-xywh") ?? "").split(",").map(Number));
    if (!made) continue;
    made.setAttribute("role", "img");
    made.setAttribute("aria-label", cut.textContent || "figure");
    cut.replaceChildren(made);
  }
}

/** A picture, with its own size as `width` and `height`; null where the browser can't show it. @param {string} url @returns {Promise<HTMLImageElement | null>} */
export function loaded(url) {
  return new Promise((resolve) => {
    const image = new Image();
    image.onload = () => resolve(Object.assign(image, { width: image.naturalWidth, height: image.naturalHeight }));
    image.onerror = () => resolve(null);
    image.src = url;
  });
}

/**
 * Cut a part out of the page; null where there is none.
 *
 * @param {CanvasImageSource & {width: number, height: number}} picture
 * @param {{w: number, h: number}} size
 * @param {number[]} place x, y, width, height
 */
export function figure(picture, size, [x, y, w, h]) {
  const [across, down] = [picture.width / size.w, picture.height / size.h];
  const left = Math.min(Math.max(0, x * across), picture.width);
  const top = Math.min(Math.max(0, y * down), picture.height);
  const width = Math.round(Math.min(w * across, picture.width - left));
  const height = Math.round(Math.min(h * down, picture.height - top));
  if (!(width >= 1 && height >= 1)) return null;
  const canvas = Object.assign(document.createElement("canvas"), { width, height });
  canvas.getContext("2d")?.drawImage(picture, left, top, width, height, 0, 0, width, height);
  return canvas;
}
