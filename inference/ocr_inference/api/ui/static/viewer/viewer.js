// @ts-check
/** The region of the page that is shown. What shows it is loaded with the first page: the web page opens without. */

import { html, useEffect, useState } from "../html.js";
import { t } from "../i18n.js";

/** @param {{store: typeof import("../store.js"), pictures: import("../pictures.js").Pictures}} props */
export function Viewer({ store, pictures }) {
  const page = store.current.value;
  const [shown, setShown] = useState(/** @type {typeof import("./shown.js") | "failed" | null} */ (null));
  useEffect(() => {
    if (!page || (shown !== null && shown !== "failed")) return;
    import("./shown.js").then(setShown, () => setShown("failed"));
  }, [page?.id]);
  if (!page) return html`<p class="empty">${t("viewer.empty")}</p>`;
  if (shown === "failed") return html`<p class="empty bad" role="alert">${t("viewer.not_loaded")}</p>`;
  return shown && html`<${shown.Shown} store=${store} pictures=${pictures} page=${page} />`;
}
