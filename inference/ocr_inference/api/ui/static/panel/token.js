// @ts-check
/** Asks for the admin token, where the server needs it. It is kept in this page's memory, and nowhere else. */
import { t } from "../i18n.js";
import { html, useEffect, useId, useRef } from "../html.js";
import { answer, question } from "./controls.js";

const BY_US = "answered";

/** @param {{store: typeof import("../store.js")}} props */
export function Question({ store }) {
  const id = useId();
  const dialog = useRef(/** @type {HTMLDialogElement | null} */ (null));
  const asked = question.value;
  useEffect(() => {
    const shown = /** @type {HTMLDialogElement} */ (dialog.current);
    if (asked && !shown.open) {
      shown.returnValue = "";
      shown.showModal();
    }
    if (!asked && shown.open) shown.close(BY_US);
  }, [asked]);
  /** @param {SubmitEvent} event */
  const submit = (event) => {
    event.preventDefault();
    const form = /** @type {HTMLFormElement} */ (event.target);
    const token = String(new FormData(form).get("token") ?? "");
    form.reset();
    if (token.trim()) answer(store, token);
  };
  const close = () => (question.value = null);
  // By Escape. The event comes later than the closing: by then the next question may have come.
  const closed = () => !dialog.current?.open && dialog.current?.returnValue !== BY_US && close();
  return html`
    <dialog ref=${dialog} class="token" aria-labelledby="${id}-title" onClose=${closed}>
      <form onSubmit=${submit} noValidate>
        <h2 id="${id}-title">${t("panel.token")}</h2>
        <p>${t("panel.token.needed", { what: asked?.control.what ?? "" })}</p>
        ${asked?.wrong && html`<p class="bad" role="alert">${t("panel.token.wrong")}</p>`}
        <label for="${id}-field">${t("panel.token")}</label>
        <input id="${id}-field" name="token" type="password" autocomplete="off" spellcheck=${false} aria-describedby="${id}-kept" />
        <p id="${id}-kept" class="soft small">${t("panel.token.kept")}</p>
        ${store.server.value?.pod.name && html`<p class="soft small">${t("panel.token.pod")} <code>kubectl get secret NAME-ocr-admin -o jsonpath='{.data.token}' | base64 -d</code></p>`}
        <div class="buttons">
          <button class="primary">${t("panel.token.use")}</button>
          <button type="button" onClick=${close}>${t("panel.token.cancel")}</button>
        </div>
      </form>
    </dialog>
  `;
}

/** Says that there is one, and takes it away. @param {{store: typeof import("../store.js")}} props */
export function Held({ store }) {
  if (!store.adminToken.value) return null;
  return html`
    <p class="held small">${t("panel.token.held")}
      <button type="button" class="quiet" onClick=${() => (store.adminToken.value = "")}>${t("panel.token.forget")}</button>
    </p>
  `;
}
