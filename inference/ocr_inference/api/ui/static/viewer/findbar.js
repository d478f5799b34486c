// @ts-check
/** Find: in the text of all pages while one types, and on the page itself where a model is asked to look. */

import { html, useEffect, useRef, useState } from "../html.js";
import { t, trouble } from "../i18n.js";
import { locate, finder } from "./locate.js";
import { MOST } from "./matches.js";
import { choose, followTerm } from "./search.js";
import { locatedNow, match, matches, searching, tab, term } from "./state.js";

/** @param {{store: typeof import("../store.js")}} props */
export function FindBar({ store }) {
  useEffect(() => followTerm(store), []);
  const looking = useRef(/** @type {AbortController | null} */ (null));
  const [busy, setBusy] = useState(false);
  const [count, at] = [matches.value.length, match.value];

  /** @param {1 | -1} step */
  function go(step) {
    if (!count) return;
    tab.value = "text";
    choose(store, at < 0 ? (step > 0 ? 0 : count - 1) : (at + step + count) % count);
  }

  /** @param {import("../store.js").Page[]} pages */
  async function look(pages) {
    const wanted = term.value.trim();
    if (!wanted) return;
    looking.current?.abort();
    const mine = new AbortController();
    looking.current = mine;
    setBusy(true);
    await locate(store, pages, wanted, mine.signal);
    if (looking.current === mine) setBusy(false);
  }

  const { current } = store;
  const able = current.value && finder(store);
  const ready = Boolean(able && term.value.trim() && !busy);
  return html`
    <form class="find" role="search" onSubmit=${(/** @type {Event} */ event) => (event.preventDefault(), go(1))}>
      <label class="unseen" for="viewer-find">${t("viewer.find.label")}</label>
      <input
        id="viewer-find"
        type="search"
        maxlength="200"
        autocomplete="off"
        placeholder=${t("viewer.find.placeholder")}
        value=${term.value}
        onInput=${(/** @type {any} */ event) => (term.value = event.target.value)}
        onKeyDown=${(/** @type {KeyboardEvent} */ event) => event.key === "Enter" && event.shiftKey && (event.preventDefault(), go(-1))}
      />
      <span class="count" role="status">${counted(count, at)}</span>
      <button type="button" class="quiet icon" disabled=${!count} aria-label=${t("viewer.find.previous")} title=${t("viewer.find.previous")} onClick=${() => go(-1)}>‹</button>
      <button type="submit" class="quiet icon" disabled=${!count} aria-label=${t("viewer.find.next")} title=${t("viewer.find.next")}>›</button>
      <span class="look">
        ${busy
          ? html`<button type="button" onClick=${() => looking.current?.abort()}>${t("viewer.find.stop")}</button>`
          : html`
              <button type="button" disabled=${!ready} title=${t("viewer.find.look.why")} onClick=${() => current.value && look([current.value])}>${t("viewer.find.look")}</button>
              ${store.pages.value.length > 1 && html`<button type="button" class="quiet" disabled=${!ready} onClick=${() => look(store.pages.value)}>${t("viewer.find.look.all")}</button>`}
            `}
      </span>
    </form>
  `;
}

/** @param {number} count @param {number} at */
function counted(count, at) {
  if (!term.value.trim() || searching.value) return "";
  if (!count) return t("viewer.find.none");
  const total = count >= MOST ? `${MOST}+` : String(count);
  return at < 0 ? t("viewer.find.count", { n: total }) : t("viewer.find.at", { i: at + 1, n: total });
}

/** What was found, as lists. @param {{store: typeof import("../store.js"), page: import("../store.js").Page}} props */
export function Found({ store, page }) {
  const found = locatedNow.value.get(page.id);
  const waiting = [...locatedNow.value.values()].filter((each) => each.state === "waiting").length;
  const elsewhere = [...locatedNow.value].filter(([id, each]) => id !== page.id && each.boxes.length);
  if (!matches.value.length && !found && !waiting && !elsewhere.length) return null;
  const numbers = new Map(store.pages.value.map((each, index) => [each.id, index + 1]));
  return html`
    <div class="found">
      ${found && html`<p class="located" role="status">${said(found)}</p>`}
      ${waiting > 1 && html`<p class="soft" role="status">${t("viewer.find.left", { n: waiting })}</p>`}
      ${elsewhere.length > 0 &&
      html`<ul aria-label=${t("viewer.find.elsewhere")}>
        ${elsewhere.map(
          ([id, { term, boxes }]) => html`<li key=${id}>
            <button type="button" class="quiet match" onClick=${() => (store.currentId.value = id)}>
              <span class="soft">${t("viewer.page", { n: numbers.get(id) ?? 0 })}</span> ${t("viewer.find.located", { n: boxes.length, term })}
            </button>
          </li>`,
        )}
      </ul>`}
      ${matches.value.length > 0 &&
      html`<ol class="matches" aria-label=${t("viewer.find.list")} tabindex="0">
        ${matches.value.map(
          ({ pageId, excerpt }, index) => html`<li key=${`${pageId}-${index}`}>
            <button type="button" class="quiet match" aria-current=${String(index === match.value)} onClick=${() => ((tab.value = "text"), choose(store, index))}>
              <span class="soft">${t("viewer.page", { n: numbers.get(pageId) ?? 0 })}</span> ${excerpt.before}<mark>${excerpt.match}</mark>${excerpt.after}
            </button>
          </li>`,
        )}
      </ol>`}
    </div>
  `;
}

/** @param {import("./state.js").Located} found */
function said({ state, term, boxes, text, error }) {
  if (state === "waiting") return t("viewer.find.looking", { term });
  if (state === "failed") return error ? trouble(error) : "";
  if (boxes.length) return t("viewer.find.located", { n: boxes.length, term });
  // Models that name no places answer in words.
  return text.trim() ? text : t("viewer.find.nowhere", { term });
}
