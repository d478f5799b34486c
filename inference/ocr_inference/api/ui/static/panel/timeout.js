// @ts-check
/** Changes the idle time until offload, and says for whom and for how long that counts. */
import { language, t } from "../i18n.js";
import { html, useId, useState } from "../html.js";
import { duration } from "./amounts.js";
import { MOST_SECONDS, NEVER, parseSeconds, sooner } from "./countdown.js";
import { key, order, running } from "./controls.js";

/** @param {{store: typeof import("../store.js"), state: any, live: boolean}} props */
export function Timeout({ store, state, live }) {
  const id = useId();
  const several = state.models.length > 1;
  const [model, choose] = useState("");
  const [typed, type] = useState(/** @type {string | null} */ (null));
  const [ticked, tick] = useState(/** @type {boolean | null} */ (null));
  const [refused, refuse] = useState(false);
  const held = current(state, model);
  // What the person changed stays as it is; else it is what counts at the server, whoever sets it.
  const never = ticked ?? held === NEVER;
  const text = typed ?? (held === null || held === NEVER ? "" : String(held));
  const busy = running.value.has(key("gpu/timeout", { model }));

  /** @param {Event} event */
  const submit = (event) => {
    event.preventDefault();
    const seconds = never ? NEVER : parseSeconds(text);
    refuse(seconds === null);
    if (seconds === null) return document.getElementById(`${id}-seconds`)?.focus();
    if (!live || busy) return;
    const name = model || (several ? t("panel.timeout.all") : state.models[0].name);
    const what = t("panel.timeout.done", { model: name, time: time(seconds) });
    /** @type {Record<string, string | number | boolean>} */
    const fields = model ? { model, timeout: seconds } : { all: true, timeout: seconds };
    const done = () => {
      type(null);
      tick(null);
      store.say(what);
    };
    void order(store, { path: "gpu/timeout", fields, what, done });
  };
  return html`
    <form class="timeout" onSubmit=${submit} noValidate>
      <fieldset>
        <legend>${t("panel.timeout")}</legend>
        <p class="soft small">${times(state)}</p>
        ${several && html`
          <label for="${id}-model">${t("panel.timeout.model")}</label>
          <select id="${id}-model" value=${model} onChange=${(/** @type {any} */ event) => { choose(event.target.value); type(null); tick(null); }}>
            <option value="">${t("panel.timeout.all")}</option>
            ${state.models.map((/** @type {any} */ each) => html`<option value=${each.name}>${each.name}</option>`)}
          </select>`}
        <div class="row">
          <label for="${id}-seconds">${t("panel.timeout.seconds")}</label>
          <input id="${id}-seconds" type="text" inputmode="decimal" autocomplete="off" value=${never ? "" : text} disabled=${never}
            aria-invalid=${refused ? "true" : undefined} aria-describedby="${id}-bounds"
            onInput=${(/** @type {any} */ event) => { type(event.target.value); refuse(false); }} />
          <label class="tick"><input type="checkbox" checked=${never} onChange=${(/** @type {any} */ event) => { tick(event.target.checked); refuse(false); }} /> ${t("panel.timeout.never")}</label>
          <button aria-disabled=${live && !busy ? undefined : "true"} aria-busy=${busy ? "true" : undefined}>${t("panel.timeout.set")}</button>
        </div>
        <p id="${id}-bounds" class=${refused ? "bad small" : "soft small"} role=${refused ? "alert" : undefined}>${t(refused ? "panel.timeout.refused" : "panel.timeout.bounds", { most: MOST_SECONDS })}</p>
        <${Sooner} models=${state.models} />
        <p class="soft small">${scope(state)}</p>
      </fieldset>
    </form>
  `;
}

/** Which models leave before that time, which would be a riddle otherwise. @param {{models: any[]}} props */
function Sooner({ models }) {
  const found = sooner(models);
  if (found.length === 0) return null;
  const text = found.map(({ name, after }) => t("panel.timeout.exit.one", { model: name, time: time(after) })).join(", ");
  return html`<p class="small">${t("panel.timeout.exit", { models: text })}</p>`;
}

/** The idle time that counts: of that model, or of all where it is the same; null where it isn't, or isn't known. @param {any} state @param {string} model */
function current(state, model) {
  const found = new Set(state.models.filter((/** @type {any} */ each) => !model || each.name === model).map((/** @type {any} */ each) => each.idle?.offload_after_seconds ?? null));
  return found.size === 1 ? [...found][0] : null;
}

/** @param {number} seconds */
const time = (seconds) => (seconds === NEVER ? t("panel.timeout.never") : seconds === 0 ? t("panel.timeout.at_once") : duration(seconds, language.value));

/** @param {any} state */
function times(state) {
  const known = state.models.filter((/** @type {any} */ model) => model.idle);
  if (new Set(known.map((/** @type {any} */ model) => model.idle.offload_after_seconds)).size === 1) return t("panel.timeout.now", { time: time(known[0].idle.offload_after_seconds) });
  return known.map((/** @type {any} */ model) => `${model.name}: ${time(model.idle.offload_after_seconds)}`).join("; ");
}

/** For whom a time counts that is set here, and until when. @param {any} state */
export function scope(state) {
  const { pod, settings } = state;
  const local = state.local_timeouts ?? [];
  const declared = settings.revision > 0;
  const where = !declared ? "server" : pod.name ? "pod" : "declared";
  const set = local.length === 0 ? "" : `${t("panel.timeout.local", { models: local.join(", ") })} `;
  return set + t(`panel.timeout.scope.${where}`, { revision: settings.revision });
}
