// @ts-check
/** What there is before the first page; and the two buttons that choose files. */
import { Icon } from "./icons.js";
import { ofInput } from "./intake.js";
import { t } from "./i18n.js";
import { html, useRef } from "./html.js";

/** What a dialogue for files offers first; what a file is, its bytes say. */
const ACCEPTED = "image/*,application/pdf,.pdf,.tif,.tiff,.jp2,.avif";

/** @param {{intake: import("./intake.js").Intake, primary?: boolean}} props */
export function Choose({ intake, primary = false }) {
  const files = useRef(/** @type {HTMLInputElement | null} */ (null));
  const folder = useRef(/** @type {HTMLInputElement | null} */ (null));
  /** @param {Event} event */
  const taken = (event) => {
    const input = /** @type {HTMLInputElement} */ (event.target);
    void intake.take(ofInput(input.files));
    input.value = ""; // so that the same file can be chosen again
  };
  return html`
    <div class="choose">
      <button type="button" class=${primary ? "primary" : ""} onClick=${() => files.current?.click()}><${Icon} name="upload" />${t("choose.files")}</button>
      <button type="button" onClick=${() => folder.current?.click()}><${Icon} name="folder" />${t("choose.folder")}</button>
      <input ref=${files} type="file" multiple hidden accept=${ACCEPTED} data-test="files" onChange=${taken} />
      <input ref=${folder} type="file" webkitdirectory hidden data-test="folder" onChange=${taken} />
    </div>
  `;
}

/** @param {{intake: import("./intake.js").Intake}} props */
export function Welcome({ intake }) {
  return html`
    <div class="welcome">
      <span class="badge"><${Icon} name="document" /></span>
      <h2><span class="by-mouse">${t("welcome.title")}</span><span class="by-touch">${t("welcome.touch")}</span></h2>
      <p class="soft by-mouse">${t("welcome.kinds")}</p>
      <${Choose} intake=${intake} primary />
      <p class="soft small">${t("welcome.privacy")}</p>
    </div>
  `;
}
