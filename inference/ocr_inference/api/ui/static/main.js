// @ts-check
/** Composition of the page: three regions (pages, the page that is shown, the server), and what runs beside them. */
import { Ask } from "./ask.js";
import { Dropping } from "./dropping.js";
import { Header } from "./header.js";
import { choose, speak, stored, t } from "./i18n.js";
import { effect, html, render, untracked } from "./html.js";
import { createIntake } from "./intake.js";
import { List } from "./list.js";
import { follow } from "./live.js";
import { Notices } from "./notices.js";
import { Panel } from "./panel/panel.js";
import { createPictures } from "./pictures.js";
import { Progress } from "./progress.js";
import { createQueue } from "./queue.js";
import * as store from "./store.js";
import { createUploads } from "./uploads.js";
import { Viewer } from "./viewer/viewer.js";
import { Welcome } from "./welcome.js";

const uploads = createUploads(store);
const pictures = createPictures(store, uploads);
const intake = createIntake(store, pictures);
const queue = createQueue(store, uploads);

function App() {
  const empty = store.pages.value.length === 0;
  const read = store.pages.value.some((page) => page.readings.length > 0);
  return html`
    <a class="skip" href="#viewer">${t("skip")}</a>
    <${Header} store=${store} />
    <main class="regions ${empty ? "without-pages" : read ? "with-text" : ""}">
      <section class="region ask" aria-label=${t("region.ask")}>
        <${Ask} store=${store} queue=${queue} />
        <${Progress} store=${store} queue=${queue} />
      </section>
      ${!empty && html`
        <section class="region list" id="list" aria-label=${t("region.list")}>
          <${List} store=${store} queue=${queue} intake=${intake} pictures=${pictures} />
        </section>
      `}
      <section class="region viewer" id="viewer" tabindex="-1" aria-label=${t("region.viewer")}>
        ${empty ? html`<${Welcome} intake=${intake} />` : html`<${Viewer} store=${store} pictures=${pictures} />`}
      </section>
      <section class="region panel" id="panel" aria-label=${t("region.panel")}><${Panel} store=${store} /></section>
    </main>
    <${Dropping} intake=${intake} />
    <${Notices} store=${store} />
  `;
}

await speak(choose(navigator.languages, stored()));
render(html`<${App} />`, /** @type {HTMLElement} */ (document.getElementById("app")));
// The whole picture of the page that is shown, once its document is known to have it.
effect(() => {
  const page = store.current.value;
  if (page) untracked(() => pictures.wantPicture(page));
});
// What was read is in this page alone: a key hit by mistake mustn't lose it.
addEventListener("beforeunload", (event) => {
  if (store.pages.value.length > 0 && (store.unsaved.value || store.pages.value.some((page) => page.readings.some((each) => each.state === "waiting")))) event.preventDefault();
});
// What couldn't be counted for want of a key or a connection is counted again once there is one.
effect(() => {
  const ready = store.connected.value && [store.apiKey.value];
  if (ready) untracked(intake.recount);
});
addEventListener("pagehide", (event) => event.persisted || queue.leave());
void follow(store);
