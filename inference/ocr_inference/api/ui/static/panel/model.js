// @ts-check
/** A model: where its weights are, what it does, when it leaves, and buttons. */
import { has, language, t } from "../i18n.js";
import { html, useRef } from "../html.js";
import { bytes, duration } from "./amounts.js";
import { key, order, running } from "./controls.js";
import { next, remaining } from "./countdown.js";
import { anchors, now } from "./history.js";

const SETTLED = ["ready", "offloaded", "unloaded", "failed"];

/** @param {{store: typeof import("../store.js"), model: any, live: boolean, kind: string}} props */
export function Card({ store, model, live, kind }) {
  const place = word("panel.location", model.location);
  return html`
    <li class="model">
      <h4>${model.name}</h4>
      <p class="where"><span class="state ${model.state}">${word("panel.state", model.state)}</span> <span class="place">${place}</span></p>
      ${model.progress && html`<${Loading} progress=${model.progress} name=${model.name} />`}
      ${(model.in_flight > 0 || model.waiting > 0) && html`<p class="small">${t("panel.work", { reading: model.in_flight, waiting: model.waiting })}</p>`}
      <${Memories} model=${model} kind=${kind} />
      ${live && html`<${Leaves} model=${model} />`}
      <${Faults} model=${model} />
      <div class="buttons">
        <${Button} store=${store} model=${model} act="load" can=${live && ["unloaded", "offloaded", "failed"].includes(model.state)} />
        <${Button} store=${store} model=${model} act="offload" can=${live && model.state === "ready"} />
        <${Button} store=${store} model=${model} act="release" can=${live && !["unloaded", "unloading", "failed"].includes(model.state)} />
      </div>
    </li>
  `;
}

/** A word of the server, in the person's language where it is known. @param {string} kind @param {string} value */
const word = (kind, value) => (has(`${kind}.${value}`) ? t(`${kind}.${value}`) : value);

/** @param {{progress: any, name: string}} props */
function Loading({ progress, name }) {
  const { phase, bytes_done: done, bytes_total: total } = progress;
  const label = word("panel.progress", phase);
  const amount = total > 0 ? ` ${bytes(done, language.value)} / ${bytes(total, language.value)}` : "";
  return html`
    <div class="loading">
      <p class="small">${label}${amount}</p>
      <progress aria-label=${`${name}: ${label}`} max=${total || undefined} value=${total > 0 ? done : undefined}></progress>
    </div>
  `;
}

/** @param {{model: any, kind: string}} props */
function Memories({ model, kind }) {
  const { memory_bytes: device, host_bytes: host } = model;
  if (device + host === 0) return null;
  const shown = (/** @type {number} */ amount) => bytes(amount, language.value);
  const elsewhere = kind === "cpu" || device === 0;
  const text = elsewhere ? t("panel.holds.host", { host: shown(device + host) }) : t("panel.holds", { device: shown(device), host: shown(host) });
  return html`<p class="soft small">${text}</p>`;
}

/** The countdown. It isn't a live region: nobody wants to hear every second. @param {{model: any}} props */
function Leaves({ model }) {
  const idle = next(model);
  if (idle.kind === "none") return null;
  if (idle.after === Infinity) return html`<p class="leaves">${t(`panel.idle.${idle.kind}`)}</p>`;
  const left = remaining(idle, model.idle_since, anchors.value.get(model.name), now.value);
  if (left === null) return html`<p class="leaves">${t(`panel.idle.${idle.kind}.after`, { time: duration(idle.after, language.value) })}</p>`;
  if (left === 0) return html`<p class="leaves">${t(`panel.idle.${idle.kind}.now`)}</p>`;
  return html`<p class="leaves" role="timer" aria-live="off">${t(`panel.idle.${idle.kind}.in`, { time: duration(left, language.value) })}</p>`;
}

/** @param {{model: any}} props */
function Faults({ model }) {
  const { last_failure: failure, waits_for: lack, stuck_since: stuck, image_failure: image } = model;
  const failed = failure && (model.failures > 0 || model.state === "failed");
  return html`
    ${failed && html`<p class="caution">${t("panel.failure", { reason: failure.reason, message: failure.message })}</p>`}
    ${lack && html`<p class="caution">${t("panel.waits_for", { needed: bytes(lack.needed_bytes, language.value), free: bytes(lack.free_bytes, language.value) })}</p>`}
    ${stuck && html`<p class="caution">${t("panel.stuck")}</p>`}
    ${image && html`<p class="caution">${t("panel.image_failure", { message: image.message })}</p>`}
  `;
}

/** @param {{store: typeof import("../store.js"), model: any, act: "load" | "offload" | "release", can: boolean}} props */
function Button({ store, model, act, can }) {
  const path = /** @type {const} */ (`gpu/${act}`);
  const fields = { model: model.name };
  const busy = running.value.has(key(path, fields));
  const what = t("panel.act", { act: t(`panel.${act}`), model: model.name });
  const off = !can || busy;
  // Not `disabled`, which would take the focus from who pressed it.
  return html`
    <button type="button" aria-label=${what} aria-disabled=${off ? "true" : undefined} aria-busy=${busy ? "true" : undefined}
      onClick=${() => !off && void order(store, { path, fields, what })}>${t(`panel.${act}`)}</button>
  `;
}

/** Says to screen readers where models went, not each step on the way. @param {{state: any}} props */
export function Changes({ state }) {
  const before = useRef(/** @type {Map<string, string> | null} */ (null));
  const said = useRef("");
  const settled = state.models.filter((/** @type {any} */ model) => SETTLED.includes(model.state));
  const changed = before.current === null ? [] : settled.filter((/** @type {any} */ model) => before.current?.get(model.name) !== model.state);
  if (changed.length > 0) said.current = changed.map((/** @type {any} */ model) => `${model.name}: ${word("panel.state", model.state)}, ${word("panel.location", model.location)}`).join("; ");
  before.current = new Map([...(before.current ?? []), ...settled.map((/** @type {any} */ model) => /** @type {const} */ ([model.name, model.state]))]);
  return html`<p class="unseen" role="status">${said.current}</p>`;
}
