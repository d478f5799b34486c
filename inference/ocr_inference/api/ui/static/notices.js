// @ts-check
/** Messages at the bottom of the page, which screen readers say. */
import { t } from "./i18n.js";
import { html } from "./html.js";

/** @param {{store: typeof import("./store.js")}} props */
export function Notices({ store }) {
  return html`
    <p class="unseen" role="status">${store.announced.value}</p>
    <div class="notices" role="log" aria-live="polite" aria-label=${t("notices")}>
      ${store.notices.value.map(
        (notice) => html`
          <p key=${notice.id} class="notice ${notice.kind}">
            <span>${notice.text}</span>
            <button type="button" class="quiet" aria-label=${t("dismiss")} onClick=${() => store.dismiss(notice.id)}>×</button>
          </p>
        `,
      )}
    </div>
  `;
}
