// @ts-check
/** How far jobs are: pages, rate, estimated end, jobs before them; with a button to cancel, or to try again. */
import { Icon } from "./icons.js";
import { language, t, trouble } from "./i18n.js";
import { html, useEffect, useState } from "./html.js";
import { ended, secondsLeft } from "./plan.js";

/** Rows that are shown; a folder of pictures is as many jobs. */
const ROWS = 4;

/** @param {{store: typeof import("./store.js"), queue: import("./queue.js").Queue}} props */
export function Progress({ store, queue }) {
  const shown = store.jobs.value.filter((job) => job.state !== "done" || (job.server?.pages.failed ?? 0) > 0);
  const active = shown.filter((job) => !ended(job.state));
  const now = useClock(active.length > 0);
  if (shown.length === 0) return null;
  // What runs, then what wants the person, then what waits.
  const rank = (/** @type {import("./store.js").Job} */ job) => (job.state === "waiting" ? 2 : ended(job.state) ? 1 : 0);
  const rows = shown.toSorted((one, other) => rank(one) - rank(other)).slice(0, ROWS);
  return html`
    <section class="progress" aria-label=${t("progress.title")}>
      <ul>
        ${rows.map((job) => html`<${Row} key=${job.id} job=${job} store=${store} queue=${queue} now=${now} />`)}
      </ul>
      ${shown.length > 1 && html`
        <p class="rest">
          <span class="soft">${shown.length > rows.length ? t("progress.more", { n: shown.length - rows.length }) : ""}</span>
          ${active.length > 1 && html`<button type="button" class="quiet" onClick=${queue.cancelAll}>${t("progress.cancel_all")}</button>`}
        </p>
      `}
    </section>
  `;
}

/** @param {{job: import("./store.js").Job, store: typeof import("./store.js"), queue: import("./queue.js").Queue, now: number}} props */
function Row({ job, store, queue, now }) {
  const name = store.documents.value.get(job.docId)?.name ?? "";
  const over = ended(job.state);
  const total = job.pageIds.length;
  const done = job.server?.pages.done ?? 0;
  return html`
    <li class="job ${job.state}">
      <p class="what"><strong>${name}</strong><span class="soft">${t(`task.${job.asked.task}`)}</span></p>
      ${!over && html`<progress max=${total} value=${job.state === "running" ? done : undefined} aria-label=${name}></progress>`}
      <p class="how ${job.state === "failed" ? "bad" : "soft"}">${how(job, now)}</p>
      <p class="deeds">
        ${!over && html`<button type="button" class="quiet" aria-label=${t("progress.cancel_one", { name })} onClick=${() => queue.cancel(job.id)}>${t("progress.cancel")}</button>`}
        ${over && html`
          <button type="button" aria-label=${t("progress.retry_one", { name })} onClick=${() => queue.retry(job.id)}><${Icon} name="again" />${t("progress.retry")}</button>
          <button type="button" class="quiet" aria-label=${t("progress.dismiss_one", { name })} onClick=${() => store.dropJob(job.id)}><${Icon} name="stop" /></button>
        `}
      </p>
    </li>
  `;
}

/** @param {import("./store.js").Job} job @param {number} now */
function how(job, now) {
  const pages = job.server?.pages ?? { total: job.pageIds.length, done: 0, failed: 0 };
  switch (job.state) {
    case "waiting":
    case "sending":
      return t(`progress.${job.state}`);
    case "full":
      return t("progress.full", { s: Math.max(1, Math.ceil(((job.againAt ?? now) - now) / 1000)) });
    case "queued":
      return job.server?.queued_ahead ? t("progress.ahead", { n: job.server.queued_ahead }) : t("progress.next");
    case "running": {
      const rate = job.server?.pages_per_second;
      const left = secondsLeft(job, now);
      return [
        t("progress.pages", { done: pages.done, n: pages.total }),
        rate ? (rate >= 1 ? t("progress.per_second", { rate: round(rate) }) : t("progress.per_minute", { rate: round(60 * rate) })) : "",
        left === null ? "" : t("progress.left", { time: duration(left) }),
      ].filter(Boolean).join(" · ");
    }
    case "failed":
      return job.error ? trouble(job.error) : t("progress.failed");
    case "cancelled":
      return t("progress.cancelled", { done: job.fetched, n: pages.total });
    case "done":
      return t("progress.some_failed", { failed: pages.failed, n: pages.total });
  }
}

/** @param {number} rate */
const round = (rate) => (rate >= 10 ? Math.round(rate) : Math.round(10 * rate) / 10);

/** @param {number} seconds */
function duration(seconds) {
  const [value, unit] = seconds < 90 ? [Math.max(1, Math.round(seconds)), "second"] : seconds < 5400 ? [Math.round(seconds / 60), "minute"] : [Math.round(seconds / 3600), "hour"];
  return new Intl.NumberFormat(language.value, { style: "unit", unit, unitDisplay: "short" }).format(value);
}

/** `Date.now()`, each second while it matters. @param {boolean} runs */
function useClock(runs) {
  const [now, setNow] = useState(Date.now());
  useEffect(() => {
    if (!runs) return;
    setNow(Date.now());
    const timer = setInterval(() => setNow(Date.now()), 1000);
    return () => clearInterval(timer);
  }, [runs]);
  return now;
}
