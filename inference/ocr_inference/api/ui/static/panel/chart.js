// @ts-check
/** Memory over time: a small plot, the same in words, and as a table. */
import { language, t } from "../i18n.js";
import { html, useId } from "../html.js";
import { bytes, duration } from "./amounts.js";
import { now, samples } from "./history.js";
import { most, span } from "./memory.js";
import { area, line } from "./plot.js";

const WIDTH = 240;
const HEIGHT = 48;
const ROWS = 12;

/** @param {{state: any}} props */
export function Memory({ state }) {
  const gpu = state.device.kind !== "cpu";
  return html`
    <h3>${t("panel.memory")}</h3>
    ${gpu && html`<${Chart} part="own" title=${t("panel.memory.gpu")} />`}
    <${Chart} part="host" title=${t("panel.memory.host")} />
    <${Table} gpu=${gpu} />
  `;
}

/** @param {{part: "own" | "host", title: string}} props */
function Chart({ part, title }) {
  const id = useId();
  const taken = samples.value;
  const last = taken.at(-1);
  const highest = most(taken, part);
  const total = part === "own" ? (last?.total ?? null) : null;
  const amount = (/** @type {number | null | undefined} */ value) => (value == null ? t("panel.memory.unknown") : bytes(value, language.value));
  const whole = part === "own" && last?.whole != null;
  // Redrawn as the window moves by a part that can be seen, not at each tick.
  const to = Math.max(last?.at ?? 0, Math.ceil(now.value / 5) * 5);
  const seconds = span(taken, to);
  const time = duration(Math.round(seconds), language.value);
  const frame = { from: to - seconds, to, top: total || 1.25 * (highest || 1), width: WIDTH, height: HEIGHT };
  const text = t(total ? "panel.memory.text_of" : "panel.memory.text", {
    now: amount(last?.[part]), total: amount(total), most: amount(highest), time,
  });
  return html`
    <figure class="chart">
      <figcaption><span>${title}</span> <strong>${amount(last?.[part])}${total ? ` / ${amount(total)}` : ""}</strong></figcaption>
      <svg viewBox="0 0 ${WIDTH} ${HEIGHT}" preserveAspectRatio="none" role="img" aria-labelledby=${id}>
        <title id=${id}>${title}: ${text}</title>
        <path class="area" d=${area(taken, part, frame)} />
        <path class="line" d=${line(taken, part, frame)} vector-effect="non-scaling-stroke" />
        ${whole && html`<path class="whole" d=${line(taken, "whole", frame)} vector-effect="non-scaling-stroke" />`}
      </svg>
      <p class="axis small" aria-hidden="true"><span>${t("panel.memory.since", { time })}</span><span>${t("panel.memory.to")}</span></p>
      ${whole && html`<p class="legend small"><span class="own">${t("panel.memory.own")}</span> <span class="whole">${t("panel.memory.whole", { amount: amount(last?.whole) })}</span></p>`}
    </figure>
  `;
}

/** The changes, the latest first. @param {{gpu: boolean}} props */
function Table({ gpu }) {
  const id = useId();
  const rows = samples.value.slice(-ROWS).reverse();
  const amount = (/** @type {number | null} */ value) => (value === null ? "–" : bytes(value, language.value));
  const ago = (/** @type {number} */ at) => duration(Math.max(0, Math.round(now.value - at)), language.value);
  return html`
    <details class="changes">
      <summary id=${id}>${t("panel.memory.table")}</summary>
      <table aria-labelledby=${id}>
        <thead><tr>
          <th scope="col">${t("panel.memory.ago")}</th>
          ${gpu && html`<th scope="col">${t("panel.memory.own")}</th><th scope="col">${t("panel.memory.all")}</th>`}
          <th scope="col">${t("panel.memory.host")}</th>
        </tr></thead>
        <tbody>${rows.map((row) => html`<tr key=${row.at}>
          <td>${ago(row.at)}</td>${gpu && html`<td>${amount(row.own)}</td><td>${amount(row.whole)}</td>`}<td>${amount(row.host)}</td>
        </tr>`)}</tbody>
      </table>
    </details>
  `;
}
