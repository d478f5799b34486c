// @ts-check
/** What can be taken away: copies and files. */

import { html, useEffect, useRef, useState } from "../html.js";
import { t, trouble } from "../i18n.js";
import { Problem } from "../api.js";
import { bodyOf } from "./body.js";
import { copy } from "./copying.js";
import { FORMATS, exported, save } from "./exports.js";
import { isMarkdown } from "./links.js";
import { visible } from "./visible.js";

/** @param {{store: typeof import("../store.js"), reading: import("../store.js").Reading | null}} props */
export function Copy({ store, reading }) {
  const result = reading?.result;
  if (!reading || !result) return null;
  const put = async (/** @type {string} */ text) => {
    const done = await copy(text);
    if (done) store.unsaved.value = false;
    store.say(t(done ? "viewer.copy.done" : "viewer.copy.failed"), done ? "info" : "error");
  };
  const plain = () => visible(bodyOf(result, reading.asked.task)).text;
  return html`
    <button type="button" onClick=${() => put(plain())}>${t("viewer.copy.text")}</button>
    ${isMarkdown(result, reading.asked.task) && html`<button type="button" onClick=${() => put(result.text)}>${t("viewer.copy.markdown")}</button>`}
  `;
}

/** @param {{store: typeof import("../store.js"), pictures: import("../pictures.js").Pictures, page: import("../store.js").Page}} props */
export function Export({ store, pictures, page }) {
  const menu = useRef(/** @type {HTMLDetailsElement | null} */ (null));
  const [scope, setScope] = useState("all");
  const [busy, setBusy] = useState(false);
  useClosing(menu);

  const ticked = store.pages.value.filter((each) => store.ticked.value.has(each.id));
  const all = store.pages.value;
  const scopes = new Map([["page", [page]]]);
  if (ticked.length) scopes.set("ticked", ticked);
  if (all.length > 1) scopes.set("all", all);
  const chosen = scopes.has(scope) ? scope : "page";
  const pages = scopes.get(chosen) ?? [];
  const unread = pages.filter((each) => !store.shownReading(each)?.result).length;

  /** @param {import("./exports.js").Format} format */
  async function take(format) {
    setBusy(true);
    try {
      const { blob, name, missing } = await exported(store, pictures, pages, format, t("viewer.export.several"));
      save(blob, name);
      store.unsaved.value = false;
      if (menu.current) menu.current.open = false;
      store.say(missing ? t("viewer.export.partly", { name, n: missing }) : t("viewer.export.done", { name }), missing ? "error" : "info");
    } catch (error) {
      if (!(error instanceof Problem)) throw error;
      store.say(trouble(error.trouble), "error");
    } finally {
      setBusy(false);
    }
  }

  return html`
    <details class="menu" ref=${menu} onToggle=${() => menu.current?.open && menu.current.lastElementChild?.scrollIntoView({ block: "nearest" })}>
      <summary>${t("viewer.export")}</summary>
      <div class="sheet-of-menu">
        <fieldset>
          <legend>${t("viewer.export.what")}</legend>
          ${[...scopes].map(
            ([each, its]) => html`<label key=${each}><input type="radio" name="viewer-scope" checked=${each === chosen} onChange=${() => setScope(each)} /> ${t(`viewer.export.${each}`, { n: its.length })}</label>`,
          )}
        </fieldset>
        ${unread > 0 && html`<p class="soft">${t("viewer.export.unread", { n: unread })}</p>`}
        <div class="formats" role="group" aria-label=${t("viewer.export.format")}>
          ${FORMATS.map((format) => html`<button type="button" key=${format} disabled=${busy || unread === pages.length} onClick=${() => take(format)}>${t(`viewer.format.${format}`)}</button>`)}
        </div>
        ${busy && html`<p role="status">${t("viewer.export.busy")}</p>`}
      </div>
    </details>
  `;
}

/** Close a menu by Escape, and by whatever happens elsewhere. @param {{current: HTMLDetailsElement | null}} menu */
function useClosing(menu) {
  useEffect(() => {
    const elsewhere = (/** @type {Event} */ event) => {
      if (menu.current && !menu.current.contains(/** @type {Node} */ (event.target))) menu.current.open = false;
    };
    const key = (/** @type {KeyboardEvent} */ event) => {
      if (event.key !== "Escape" || !menu.current?.open) return;
      menu.current.open = false;
      menu.current.querySelector("summary")?.focus();
    };
    for (const kind of ["pointerdown", "focusin"]) document.addEventListener(kind, elsewhere);
    document.addEventListener("keydown", key);
    return () => {
      for (const kind of ["pointerdown", "focusin"]) document.removeEventListener(kind, elsewhere);
      document.removeEventListener("keydown", key);
    };
  }, []);
}
