// @ts-check
/**
 * Boxes over the page: pointing at one points at its text, too. One stop for the keyboard; arrows go from box to box.
 *
 * @typedef {object} Layer
 * @property {"parts" | "found"} kind parts of the page, which its text belongs to, or what a model found of a term
 * @property {boolean} striking whether they are what was looked for
 * @property {import("../store.js").Box[]} boxes
 * @property {{w: number, h: number}} size in whose pixels they are
 * @property {(box: number) => string} words what stands in a box, to be said
 *
 * @typedef {{boxes: number[][], size: {w: number, h: number}} | null} Lines that have what is looked for
 */

import { html, useMemo, useRef, useSignalEffect } from "../html.js";
import { language, t } from "../i18n.js";
import { placed } from "./geometry.js";
import { active, from, hits, moved, point } from "./state.js";

const KINDS = new Set("title text table image figure formula caption list header footer footnote code".split(" "));

/** @param {{layers: Layer[], lines: Lines, stage: {current: HTMLElement | null}}} props */
export function Overlay({ layers, lines, stage }) {
  return html`
    ${lines && html`<div class="boxes lines" aria-hidden="true">${lines.boxes.map((box, number) => html`<i key=${number} style=${style(box, lines.size)}></i>`)}</div>`}
    ${layers.map((layer) => html`<${Boxes} key=${layer.kind} layer=${layer} marksHits=${!lines} stage=${stage} />`)}
  `;
}

/** @param {readonly number[]} box @param {{w: number, h: number}} size */
function style(box, size) {
  const { left, top, width, height } = placed(box, size);
  return { left: `${left}%`, top: `${top}%`, width: `${width}%`, height: `${height}%` };
}

/** @param {{layer: Layer, marksHits: boolean, stage: {current: HTMLElement | null}}} props */
function Boxes({ layer, marksHits, stage }) {
  const group = useRef(/** @type {HTMLElement | null} */ (null));
  const { kind, striking, boxes, size, words } = layer;
  const isParts = kind === "parts";
  const marked = isParts && marksHits ? hits.value : NONE;
  // Thousands of them on a dense page: made once, and pointed at without making them again.
  const buttons = useMemo(() => boxes.map((each, number) => box(each, number, size, words(number), marked.has(number), isParts)), [boxes, size, marked, isParts, language.value]);

  useSignalEffect(() => {
    const pointed = isParts ? active.value : -1;
    const all = group.current?.children ?? [];
    for (const old of group.current?.querySelectorAll("[data-active], [tabindex='0']") ?? []) {
      old.removeAttribute("data-active");
      old.setAttribute("tabindex", "-1");
    }
    all[Math.max(0, pointed)]?.setAttribute("tabindex", "0");
    all[pointed]?.setAttribute("data-active", "");
    if (all[pointed] && from.peek() === "text" && stage.current) bringInto(stage.current, all[pointed]);
  });

  /** @param {KeyboardEvent} event */
  function key(event) {
    const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
    const all = /** @type {HTMLElement[]} */ ([...(group.current?.children ?? [])]);
    const at = all.indexOf(/** @type {HTMLElement} */ (document.activeElement));
    const next = event.key === "Home" ? 0 : event.key === "End" ? all.length - 1 : step ? at + step : -1;
    if (event.key === "Escape") point(-1, "page");
    if (!all[next]) return;
    event.preventDefault();
    event.stopPropagation();
    all[next].focus();
  }

  if (!boxes.length) return null;
  return html`
    <div class="boxes ${striking ? "striking" : ""}" role="group" ref=${group} aria-label=${t(striking ? "viewer.boxes.found" : "viewer.boxes.parts", { n: boxes.length })} onKeyDown=${key}>
      ${buttons}
    </div>
  `;
}

const NONE = new Set();

/**
 * @param {import("../store.js").Box} part
 * @param {number} number
 * @param {{w: number, h: number}} size
 * @param {string} words
 * @param {boolean} isHit
 * @param {boolean} points whether it points at its text
 */
function box({ label, box }, number, size, words, isHit, points) {
  const said = [named(label), words].filter(Boolean).join(": ");
  const here = () => point(number, "page");
  return html`<button
    type="button"
    key=${number}
    class=${isHit ? "box hit" : "box"}
    data-kind=${KINDS.has(label) ? label : ""}
    tabindex=${number ? -1 : 0}
    title=${said}
    aria-label=${said}
    style=${style(box, size)}
    onMouseMove=${(/** @type {MouseEvent} */ event) => points && moved(event) && here()}
    onMouseLeave=${(/** @type {MouseEvent} */ event) => points && moved(event) && point(-1, "page")}
    onFocus=${() => points && here()}
    onBlur=${() => points && point(-1, "page")}
  ></button>`;
}

/** A kind of part in the person's language; other labels are words of the page. @param {string} label */
function named(label) {
  return KINDS.has(label) ? t(`viewer.kind.${label}`) : label;
}

/** Scroll a view so that an element is in it, and nothing else. @param {HTMLElement} view @param {Element} element */
export function bringInto(view, element) {
  const [frame, place] = [view.getBoundingClientRect(), element.getBoundingClientRect()];
  const margin = 24;
  const by = (/** @type {number} */ start, /** @type {number} */ end, /** @type {number} */ low, /** @type {number} */ high) =>
    start < low + margin || end - start > high - low ? start - low - margin : end > high - margin ? end - high + margin : 0;
  view.scrollBy({ left: by(place.left, place.right, frame.left, frame.right), top: by(place.top, place.bottom, frame.top, frame.bottom) });
}
