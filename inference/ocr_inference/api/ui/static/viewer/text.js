// @ts-check
/** What was read of the page: as text, as the source that the model wrote, as JSON. */

import { html, useEffect, useLayoutEffect, useRef } from "../html.js";
import { t } from "../i18n.js";
import { bodyOf, loaded, placeFigures } from "./body.js";
import { isMarkdown } from "./links.js";
import { bringInto } from "./overlay.js";
import { active, from, match, matches, moved, point, tab, term } from "./state.js";
import { showMatches } from "./highlight.js";
import { typeset } from "./typeset.js";

const TABS = /** @type {const} */ (["text", "source", "json"]);

/** @param {{page: import("../store.js").Page, reading: import("../store.js").Reading}} props */
export function Text({ page, reading }) {
  const shown = tab.value;
  /** @param {KeyboardEvent} event */
  function key(event) {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!step) return;
    event.preventDefault();
    tab.value = TABS[(TABS.indexOf(shown) + step + TABS.length) % TABS.length];
    /** @type {HTMLElement | null} */ (document.getElementById(`viewer-tab-${tab.value}`))?.focus();
  }
  return html`
    <div class="text-frame">
      <div class="bar tabs" role="tablist" aria-label=${t("viewer.tabs")} onKeyDown=${key}>
        ${TABS.map(
          (each) => html`<button
            type="button"
            role="tab"
            class="quiet"
            key=${each}
            id=${`viewer-tab-${each}`}
            aria-selected=${String(each === shown)}
            aria-controls="viewer-text"
            tabindex=${each === shown ? 0 : -1}
            onClick=${() => (tab.value = each)}
          >${t(`viewer.tab.${each}`)}</button>`,
        )}
      </div>
      <div class="text" id="viewer-text" role="tabpanel" tabindex="0" aria-labelledby=${`viewer-tab-${shown}`}>
        ${shown === "text" && (blank(reading) ?? html`<${Body} page=${page} reading=${reading} />`)}
        ${shown === "source" && html`<pre class="plain">${reading.result?.raw_text || reading.result?.text}</pre>`}
        ${shown === "json" && html`<pre class="plain">${JSON.stringify(reading.result, null, 2)}</pre>`}
      </div>
    </div>
  `;
}

/** What is said where nothing was read; null where something was. @param {import("../store.js").Reading} reading */
function blank({ result, asked }) {
  if (result?.text.trim()) return null;
  return html`<p class="soft" role="status">${asked.task === "find" ? t("viewer.find.nowhere", { term: asked.findTerm }) : t("viewer.blank")}</p>`;
}

/** @param {{page: import("../store.js").Page, reading: import("../store.js").Reading}} props */
function Body({ page, reading }) {
  const article = useRef(/** @type {HTMLElement | null} */ (null));
  const result = /** @type {import("../store.js").Result} */ (reading.result);
  const task = reading.asked.task;
  const { picture } = page;

  // Before what follows, which looks at its elements.
  useLayoutEffect(() => {
    const element = article.current;
    if (!element) return undefined;
    element.replaceChildren(bodyOf(result, task));
    let gone = false;
    void typeset(element);
    if (picture && element.querySelector(".figure-cut")) {
      void loaded(picture).then((image) => image && !gone && placeFigures(element, image, result.image_dims));
    }
    return () => {
      gone = true;
    };
  }, [result, task, picture]);

  useEffect(() => {
    const element = article.current;
    if (!element) return;
    for (const old of element.querySelectorAll(".pointed")) old.classList.remove("pointed");
    const parts = active.value < 0 ? [] : [...element.querySelectorAll(`[data-box="${active.value}"]`)];
    for (const part of parts) part.classList.add("pointed");
    if (parts[0] && from.value === "page" && element.parentElement) bringInto(element.parentElement, parts[0]);
  }, [active.value, result]);

  useEffect(() => {
    if (article.current) showMatches(article.current, page.id);
  }, [result, term.value, matches.value, match.value]);

  /** @param {MouseEvent} event */
  function over(event) {
    if (event.type === "mousemove" && !moved(event)) return;
    const part = /** @type {Element} */ (event.target).closest?.("[data-box]");
    point(part ? Number(part.getAttribute("data-box")) : -1, "text");
  }
  return html`<article
    class=${isMarkdown(result, task) ? "rich" : "plain"}
    ref=${article}
    aria-label=${t("viewer.article", { n: page.index + 1 })}
    onMouseMove=${over}
    onMouseLeave=${() => point(-1, "text")}
    onClick=${over}
  ></article>`;
}
