// @ts-check
/** The page itself: its picture at any zoom, and the boxes over it. */

import { html, useEffect, useLayoutEffect, useRef, useState } from "../html.js";
import { t } from "../i18n.js";
import { clamp, scaleOf, scrolled, stepped } from "./geometry.js";
import { Overlay } from "./overlay.js";
import { overlay, zoom } from "./state.js";

/**
 * @param {{page: import("../store.js").Page, size: {w: number, h: number}, layers: import("./overlay.js").Layer[], lines: import("./overlay.js").Lines}} props
 *   `size`: of the page, in its own pixels; `lines`: those that have what is looked for
 */
export function Stage({ page, size, layers, lines }) {
  const stage = useRef(/** @type {HTMLElement | null} */ (null));
  const view = useView(stage);
  const scale = scaleOf(zoom.value, size, view);
  const to = useZooming(stage, scale);
  const picture = page.picture ?? page.thumb;

  /** @param {KeyboardEvent} event */
  function key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const action = /** @type {Record<string, () => void>} */ ({
      "+": () => to(stepped(scale, 1)),
      "=": () => to(stepped(scale, 1)),
      "-": () => to(stepped(scale, -1)),
      1: () => to(1),
      0: () => (zoom.value = "page"),
      w: () => (zoom.value = "width"),
      b: () => (overlay.value = !overlay.value),
    })[event.key];
    if (!action) return;
    event.preventDefault();
    action();
  }

  return html`
    <div class="stage-frame" style=${{ "--tall": String(size.h / Math.max(1, size.w)) }}>
      <div class="bar" role="toolbar" aria-label=${t("viewer.zoom.label")}>
        <button type="button" class="quiet icon" title=${t("viewer.zoom.out")} aria-label=${t("viewer.zoom.out")} onClick=${() => to(stepped(scale, -1))}>−</button>
        <output class="scale" aria-label=${t("viewer.zoom.scale")}>${Math.round(scale * 100)} %</output>
        <button type="button" class="quiet icon" title=${t("viewer.zoom.in")} aria-label=${t("viewer.zoom.in")} onClick=${() => to(stepped(scale, 1))}>+</button>
        <button type="button" class="quiet" aria-pressed=${String(zoom.value === "width")} title=${t("viewer.zoom.width.why")} onClick=${() => (zoom.value = "width")}>${t("viewer.zoom.width")}</button>
        <button type="button" class="quiet" aria-pressed=${String(zoom.value === "page")} title=${t("viewer.zoom.page.why")} onClick=${() => (zoom.value = "page")}>${t("viewer.zoom.page")}</button>
        <label class="switch"><input type="checkbox" checked=${overlay.value} onChange=${() => (overlay.value = !overlay.value)} /> ${t("viewer.overlay")}</label>
      </div>
      <div class="stage" ref=${stage} tabindex="0" role="region" aria-label=${t("viewer.stage")} onKeyDown=${key}>
        <div class="sheet" style=${{ width: `${size.w * scale}px`, height: `${size.h * scale}px` }}>
          ${picture ? html`<img src=${picture} alt=${t("viewer.picture", { n: page.index + 1 })} draggable=${false} />` : html`<p class="empty">${t("viewer.no_picture")}</p>`}
          ${overlay.value && html`<${Overlay} layers=${layers} lines=${lines} stage=${stage} />`}
        </div>
      </div>
    </div>
  `;
}

/** What is free for the page, as it changes. @param {{current: HTMLElement | null}} stage */
function useView(stage) {
  const [view, setView] = useState({ w: 600, h: 800 });
  useLayoutEffect(() => {
    const element = stage.current;
    if (!element) return undefined;
    const measure = () => {
      // With the scroll bar's place, and without the padding: a bar that comes and goes must not change what is fitted.
      const [w, h] = [element.offsetWidth - 2 * PADDING - BAR, element.offsetHeight - 2 * PADDING];
      setView((old) => (old.w === w && old.h === h ? old : { w: Math.max(50, w), h: Math.max(50, h) }));
    };
    const observer = new ResizeObserver(measure);
    observer.observe(element);
    measure();
    return () => observer.disconnect();
  }, []);
  return view;
}

/** CSS pixels around the page, as in viewer.css, and of a scroll bar. */
const PADDING = 12;
const BAR = 16;

/**
 * Zoom by wheel and pinch; returns what zooms to a scale. What is under the pointer stays there.
 *
 * @param {{current: HTMLElement | null}} stage
 * @param {number} scale
 */
function useZooming(stage, scale) {
  const now = useRef(scale);
  const next = useRef(/** @type {{x: number, y: number} | null} */ (null));

  /** @param {number} wanted @param {{x: number, y: number}} [at] in the stage, else its middle */
  function to(wanted, at) {
    const element = stage.current;
    if (!element) return;
    const point = at ?? { x: element.clientWidth / 2, y: element.clientHeight / 2 };
    const scale = clamp(wanted);
    // The padding doesn't grow.
    const scroll = { x: element.scrollLeft - PADDING, y: element.scrollTop - PADDING };
    const moved = scrolled(next.current ?? scroll, point, now.current, scale);
    next.current = moved;
    now.current = scale;
    zoom.value = scale;
  }

  useLayoutEffect(() => {
    now.current = scale;
    if (!next.current || !stage.current) return;
    stage.current.scrollTo(next.current.x + PADDING, next.current.y + PADDING);
    next.current = null;
  }, [scale]);

  useEffect(() => {
    const element = stage.current;
    if (!element) return undefined;
    /** @type {Map<number, {x: number, y: number}>} */
    const fingers = new Map();
    const place = (/** @type {MouseEvent} */ event) => {
      const frame = element.getBoundingClientRect();
      return { x: event.clientX - frame.left, y: event.clientY - frame.top };
    };
    const wheel = (/** @type {WheelEvent} */ event) => {
      if (!event.ctrlKey && !event.metaKey) return;
      event.preventDefault();
      const lines = event.deltaMode === WheelEvent.DOM_DELTA_LINE ? 30 : 1;
      to(now.current * Math.exp((-event.deltaY * lines) / 300), place(event));
    };
    const down = (/** @type {PointerEvent} */ event) => {
      if (event.pointerType === "touch") fingers.set(event.pointerId, place(event));
    };
    const move = (/** @type {PointerEvent} */ event) => {
      const before = [...fingers.values()];
      if (!fingers.has(event.pointerId)) return;
      fingers.set(event.pointerId, place(event));
      if (fingers.size !== 2) return;
      const [one, other] = [...fingers.values()];
      const ratio = apart(one, other) / Math.max(1, apart(before[0], before[1]));
      to(now.current * ratio, { x: (one.x + other.x) / 2, y: (one.y + other.y) / 2 });
    };
    const up = (/** @type {PointerEvent} */ event) => fingers.delete(event.pointerId);
    element.addEventListener("wheel", wheel, { passive: false });
    element.addEventListener("pointerdown", down);
    element.addEventListener("pointermove", move);
    for (const kind of ["pointerup", "pointercancel", "pointerleave"]) element.addEventListener(kind, /** @type {any} */ (up));
    return () => {
      element.removeEventListener("wheel", wheel);
      element.removeEventListener("pointerdown", down);
      element.removeEventListener("pointermove", move);
      for (const kind of ["pointerup", "pointercancel", "pointerleave"]) element.removeEventListener(kind, /** @type {any} */ (up));
    };
  }, []);
  return to;
}

/** @param {{x: number, y: number}} one @param {{x: number, y: number}} other */
function apart(one, other) {
  return Math.hypot(one.x - other.x, one.y - other.y);
}
