// @ts-check
/** What pages are read for: the task, the model, what to look for; and the button that has them read. */
import { Icon } from "./icons.js";
import { t } from "./i18n.js";
import { html, useId, useRef, useState } from "./html.js";
import { possible, toRead } from "./plan.js";

/** Tasks in the order in which they are offered. @type {import("./store.js").Task[]} */
const TASKS = ["document", "ocr", "free", "find", "figure", "describe", "freeform"];

/** @param {{store: typeof import("./store.js"), queue: import("./queue.js").Queue}} props */
export function Ask({ store, queue }) {
  const asked = possible(store.asked.value, store.models.value);
  const models = store.models.value;
  const tasks = models.find((model) => model.id === asked.model)?.tasks ?? TASKS;
  const readable = store.pages.value.filter((page) => !store.documents.value.get(page.docId)?.error);
  const { ids, again } = toRead(readable, store.ticked.value, asked);
  const field = useRef(/** @type {HTMLInputElement | null} */ (null));
  const [missing, setMissing] = useState(false);
  const hint = useId();
  const needed = asked.task === "find" ? "findTerm" : asked.task === "freeform" ? "prompt" : null;

  /** @param {Partial<import("./store.js").Asked>} changes */
  const change = (changes) => {
    store.asked.value = { ...asked, ...changes };
    setMissing(false);
  };
  /** @param {Event} event */
  const read = (event) => {
    event.preventDefault();
    if (needed && asked[needed].trim() === "") {
      setMissing(true);
      field.current?.focus();
    } else queue.read(ids, { ...asked, findTerm: asked.findTerm.trim(), prompt: asked.prompt.trim() });
  };
  return html`
    <form class="ask" onSubmit=${read} aria-label=${t("ask.title")} noValidate>
      <fieldset class="tasks">
        <legend class="unseen">${t("ask.task")}</legend>
        ${TASKS.filter((task) => tasks.includes(task)).map(
          (task) => html`
            <label key=${task} class="task ${task === asked.task ? "chosen" : ""}" title=${t(`task.${task}.meaning`)}>
              <input type="radio" class="unseen" name="task" value=${task} checked=${task === asked.task} onChange=${() => change({ task })} />
              <${Icon} name=${task} />
              <span class="name">${t(`task.${task}`)}</span>
              <span class="meaning">${t(`task.${task}.meaning`)}</span>
            </label>
          `,
        )}
      </fieldset>
      <div class="go">
        ${needed && html`
          <label class="needed">
            <span>${t(`ask.${needed}`)}</span>
            <input ref=${field} value=${asked[needed]} maxlength=${needed === "findTerm" ? 200 : 4000} autocomplete="off"
              placeholder=${t(`ask.${needed}.example`)} aria-invalid=${missing} aria-describedby=${missing ? hint : undefined}
              onInput=${(/** @type {Event} */ event) => change({ [needed]: /** @type {HTMLInputElement} */ (event.target).value })} />
            ${missing && html`<span class="bad small" id=${hint} role="alert">${t(`ask.${needed}.missing`)}</span>`}
          </label>
        `}
        ${models.length > 1 && html`
          <label class="which">
            <span>${t("ask.model")}</span>
            <select value=${asked.model} onChange=${(/** @type {Event} */ event) => change({ model: /** @type {HTMLSelectElement} */ (event.target).value })}>
              ${models.map((model) => html`<option key=${model.id} value=${model.id} selected=${model.id === asked.model}>${model.id}</option>`)}
            </select>
          </label>
        `}
        <button class="primary read" disabled=${ids.length === 0}>
          ${t(readable.length === 0 ? "read.none" : ids.length === 0 ? "read.running" : again ? "read.again" : store.ticked.value.size > 0 ? "read.ticked" : "read.all", { n: ids.length })}
        </button>
      </div>
    </form>
  `;
}
