// @ts-check
/** The server: its device and memory, its models, and what can be done about them. */
import { language, t } from "../i18n.js";
import { html, useEffect } from "../html.js";
import { duration } from "./amounts.js";
import { lostAt, now, remember } from "./history.js";
import { Memory } from "./chart.js";
import { Card, Changes } from "./model.js";
import { Timeout } from "./timeout.js";
import { Held, Question } from "./token.js";

/** @param {{store: typeof import("../store.js")}} props */
export function Panel({ store }) {
  useEffect(() => remember(store), []);
  const state = store.server.value;
  if (state === null) return html`<h2>${t("panel.title")}</h2><p class="empty">${t("panel.waits")}</p>`;
  const live = store.connected.value;
  return html`
    <h2>${t("panel.title")}</h2>
    ${!live && html`<${Lost} />`}
    ${state.draining && html`<p class="caution">${t("panel.draining")}</p>`}
    <${About} state=${state} />
    <${Memory} state=${state} />
    <h3>${t("panel.models")}</h3>
    <ul class="models">
      ${state.models.map((/** @type {any} */ model) => html`<${Card} key=${model.name} store=${store} model=${model} live=${live} kind=${state.device.kind} />`)}
    </ul>
    <${Changes} state=${state} />
    <${Timeout} store=${store} state=${state} live=${live} />
    <${Help} kind=${state.device.kind} />
    <${Held} store=${store} />
    <${Question} store=${store} />
  `;
}

function Lost() {
  const ago = lostAt.value === null ? 0 : now.value - lostAt.value;
  return html`<p class="caution">${t("panel.lost", { ago: duration(Math.round(ago), language.value) })}</p>`;
}

/** @param {{state: any}} props */
function About({ state }) {
  const { device, pod, queue } = state;
  const product = device.product ?? "";
  return html`
    <p>${t(`panel.device.${["cuda", "cpu", "simulated"].includes(device.kind) ? device.kind : "unknown"}`, { product, kind: device.kind })}</p>
    ${device.mismatch && html`<p class="caution">${device.mismatch}</p>`}
    ${pod.name && html`<p class="soft small">${t("panel.pod", { name: pod.name })}</p>`}
    <p class="soft small">${t("panel.queue", { reading: queue.in_flight, waiting: queue.waiting, limit: queue.limit })}</p>
  `;
}

/** @param {{kind: string}} props */
function Help({ kind }) {
  return html`
    <details class="help">
      <summary>${t("panel.help")}</summary>
      <dl>
        ${["load", "offload", "release"].map((each) => html`<dt>${t(`panel.${each}`)}</dt><dd>${t(`panel.help.${each}${each === "offload" && kind === "cpu" ? ".cpu" : ""}`)}</dd>`)}
      </dl>
    </details>
  `;
}
