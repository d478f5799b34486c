// @ts-check
/** The page that is shown, beside what was read of it. */

import { html, useLayoutEffect, useMemo } from "../html.js";
import { t, trouble } from "../i18n.js";
import { FindBar, Found } from "./findbar.js";
import { boxesOf, linked } from "./links.js";
import { Copy, Export } from "./menus.js";
import { Stage } from "./stage.js";
import { find, folded } from "./matches.js";
import { hits, locatedNow, point, term } from "./state.js";
import { Text } from "./text.js";

/** @param {{store: typeof import("../store.js"), pictures: import("../pictures.js").Pictures, page: import("../store.js").Page}} props */
export function Shown({ store, pictures, page }) {
  const reading = store.shownReading(page);
  const result = reading?.result ?? null;
  const task = reading?.asked.task ?? "document";
  const found = locatedNow.value.get(page.id);
  const parts = useMemo(() => partsOf(result, task), [result, task]);
  // Before the text of the page, where it shows a match, points at its box.
  useLayoutEffect(() => {
    point(-1, "page");
    if (!result) hits.value = new Set();
  }, [page.id, result]);

  const lines = useMemo(() => linesWith(result, term.value), [result, term.value]);
  const size = result?.image_dims ?? page.size ?? { w: 800, h: 1100 };
  const layers = [
    ...(parts ? [parts] : []),
    ...(found?.size ? [{ kind: /** @type {const} */ ("found"), striking: true, boxes: found.boxes, size: found.size, words: () => "" }] : []),
  ];
  return html`
    <div class="bar head">
      <${Pages} store=${store} page=${page} />
      <${Readings} store=${store} page=${page} />
      <span class="tools">
        <${Copy} store=${store} reading=${reading} />
        <${Export} store=${store} pictures=${pictures} page=${page} />
      </span>
    </div>
    <${FindBar} store=${store} />
    <${Found} store=${store} page=${page} />
    <div class="sides">
      <${Stage} page=${page} size=${size} layers=${layers} lines=${lines} />
      ${result && reading ? html`<${Text} page=${page} reading=${reading} />` : html`<p class="empty text-frame">${missing(reading)}</p>`}
    </div>
  `;
}

/**
 * The boxes of the page's own parts, and what stands in them.
 *
 * @param {import("../store.js").Result | null} result
 * @param {string} task
 * @returns {import("./overlay.js").Layer | null}
 */
function partsOf(result, task) {
  if (!result?.image_dims) return null;
  const boxes = boxesOf(result);
  const words = new Map(linked(result, task, boxes).map(({ start, end, box }) => [box, result.text.slice(start, end)]));
  const said = (/** @type {number} */ box) => (boxes[box].label === words.get(box) ? "" : short(words.get(box) ?? ""));
  return { kind: "parts", striking: task === "find", boxes, size: result.image_dims, words: said };
}

/**
 * Where lines of the page have a term.
 *
 * @param {import("../store.js").Result | null} result
 * @param {string} wanted
 * @returns {{boxes: number[][], size: {w: number, h: number}} | null} null where no line has it, or lines have no places
 */
function linesWith(result, wanted) {
  if (!result?.lines || !result.image_dims || !wanted.trim()) return null;
  const found = result.lines.filter(({ text }) => find(folded(text), wanted).length);
  const boxes = found.map(({ corners }) => {
    const [xs, ys] = [corners.map(([x]) => x), corners.map(([, y]) => y)];
    return [Math.min(...xs), Math.min(...ys), Math.max(...xs), Math.max(...ys)];
  });
  return boxes.length ? { boxes, size: result.image_dims } : null;
}

/** @param {string} text */
function short(text) {
  const line = text.replace(/<[^>]{0,200}>/g, " ").replace(/\s+/g, " ").trim();
  return line.length > 120 ? `${line.slice(0, 119)}…` : line;
}

/** Why there is no text. @param {import("../store.js").Reading | null} reading */
function missing(reading) {
  if (!reading) return t("viewer.unread");
  if (reading.error) return trouble(reading.error);
  return t(reading.state === "cancelled" ? "viewer.cancelled" : "viewer.waiting");
}

/** The pages, one after the other, and those of the document by number. @param {{store: typeof import("../store.js"), page: import("../store.js").Page}} props */
function Pages({ store, page }) {
  const pages = store.pages.value;
  const at = pages.indexOf(page);
  const own = pages.filter((each) => each.docId === page.docId).sort((one, other) => one.index - other.index);
  const document = store.documents.value.get(page.docId);
  const go = (/** @type {number} */ to) => pages[to] && (store.currentId.value = pages[to].id);
  const name = html`<b class="name" title=${document?.path}>${document?.name}</b>`;
  if (pages.length === 1) return name;
  return html`
    <span class="turn">
      <button type="button" class="quiet icon" disabled=${at <= 0} aria-label=${t("viewer.pages.previous")} title=${t("viewer.pages.previous")} onClick=${() => go(at - 1)}>‹</button>
      ${own.length > 1
        ? html`<label><span class="unseen">${t("viewer.pages.choose")}</span>
            <select value=${page.id} onChange=${(/** @type {any} */ event) => (store.currentId.value = event.target.value)}>
              ${own.map((each) => html`<option key=${each.id} value=${each.id} selected=${each.id === page.id}>${t("viewer.pages.of", { i: each.index + 1, n: document?.pageCount ?? own.length })}</option>`)}
            </select></label>`
        : html`<span class="soft">${t("viewer.pages.of", { i: at + 1, n: pages.length })}</span>`}
      <button type="button" class="quiet icon" disabled=${at >= pages.length - 1} aria-label=${t("viewer.pages.next")} title=${t("viewer.pages.next")} onClick=${() => go(at + 1)}>›</button>
      ${name}
    </span>
  `;
}

/** Which reading is shown, where the page was read more than once. @param {{store: typeof import("../store.js"), page: import("../store.js").Page}} props */
function Readings({ store, page }) {
  if (page.readings.length < 2) return null;
  const shown = page.shown ?? page.readings.length - 1;
  return html`<label><span class="unseen">${t("viewer.readings")}</span>
    <select value=${String(shown)} onChange=${(/** @type {any} */ event) => store.patchPage(page.id, { shown: Number(event.target.value) })}>
      ${page.readings.map(
        ({ asked }, index) => html`<option key=${index} value=${String(index)} selected=${index === shown}>
          ${index + 1}. ${t(`task.${asked.task}`)}${asked.findTerm ? ` “${asked.findTerm}”` : ""} (${asked.model})
        </option>`,
      )}
    </select></label>`;
}
