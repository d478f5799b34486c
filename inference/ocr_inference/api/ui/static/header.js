// @ts-check
/** Top of the page: its name, whether the server answers, and the language. */
import { LANGUAGES, language, speak, t } from "./i18n.js";
import { html, useEffect, useRef } from "./html.js";
import { Icon } from "./icons.js";

/** @param {{store: typeof import("./store.js")}} props */
export function Header({ store }) {
  const connected = store.connected.value;
  return html`
    <header class="top">
      <h1>${t("title")}</h1>
      <span class="connection ${connected ? "up" : "down"}" role="status">${t(connected ? "connected" : "connecting")}</span>
      <${Key} store=${store} />
      <label class="language">
        <span class="unseen">${t("language")}</span>
        <select value=${language.value} onChange=${change}>
          ${Object.entries(LANGUAGES).map(([tag, name]) => html`<option value=${tag} lang=${tag} selected=${tag === language.value}>${name}</option>`)}
        </select>
      </label>
    </header>
  `;
}

/** @param {Event} event */
function change(event) {
  const wanted = /** @type {HTMLSelectElement} */ (event.target).value;
  void speak(/** @type {keyof typeof LANGUAGES} */ (wanted), true);
}

/** Place for the API key, which opens by itself where the server asks for one. @param {{store: typeof import("./store.js")}} props */
function Key({ store }) {
  const field = useRef(/** @type {HTMLInputElement | null} */ (null));
  const box = useRef(/** @type {HTMLDetailsElement | null} */ (null));
  const refused = store.keyRefused.value;
  useEffect(() => {
    if (!refused || !box.current) return;
    box.current.open = true;
    field.current?.focus();
  }, [refused]);
  const close = (/** @type {KeyboardEvent} */ event) => {
    const entered = event.key === "Enter" && event.target === field.current;
    if (box.current && (entered || event.key === "Escape")) box.current.open = false;
  };
  return html`
    <details class="key" ref=${box} onKeyDown=${close}>
      <summary><${Icon} name="key" /><span class="word">${t("key.title")}</span></summary>
      <div class="popover">
        <label><span>${t("key.label")}</span>
          <input ref=${field} type="password" autocomplete="off" spellcheck=${false} value=${store.apiKey.value} aria-describedby="key-about"
            onChange=${(/** @type {Event} */ event) => store.useKey(/** @type {HTMLInputElement} */ (event.target).value.trim())} />
        </label>
        <p id="key-about" class="small ${refused ? "bad" : "soft"}">${t(refused ? "key.needed" : "key.about")}</p>
      </div>
    </details>
  `;
}
