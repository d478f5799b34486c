// @ts-check
/** Files that are dropped anywhere on the page, or pasted into it. */
import { ofTransfer } from "./intake.js";
import { t } from "./i18n.js";
import { html, useLayoutEffect, useState } from "./html.js";

/** @param {{intake: import("./intake.js").Intake}} props */
export function Dropping({ intake }) {
  const [over, setOver] = useState(false);
  useLayoutEffect(() => {
    const stop = new AbortController();
    /** @param {DragEvent | ClipboardEvent} event @param {DataTransfer | null} data */
    const take = (event, data) => {
      if (!data || ![...data.types].includes("Files")) return;
      event.preventDefault();
      void ofTransfer(data).then(intake.take);
    };
    const { signal } = stop;
    // Of files alone: pages of the list are dragged, too.
    addEventListener("dragover", (event) => {
      if (!event.dataTransfer?.types.includes("Files")) return;
      event.preventDefault();
      setOver(true);
    }, { signal });
    addEventListener("dragleave", (event) => event.relatedTarget === null && setOver(false), { signal });
    addEventListener("drop", (event) => {
      setOver(false);
      take(event, event.dataTransfer);
    }, { signal });
    addEventListener("paste", (event) => {
      // Cells and paragraphs of other programs come with a picture of them: in a field they are meant as text.
      const isText = event.target instanceof HTMLElement && event.target.matches("input, textarea") && event.clipboardData?.types.includes("text/plain");
      if (!isText) take(event, event.clipboardData);
    }, { signal });
    return () => stop.abort();
  }, [intake]);
  return over && html`<div class="dropping" aria-hidden="true"><p>${t("drop.here")}</p></div>`;
}
