// @ts-check
/** Jobs: pages are sent to be read, followed as the server reads them, cancelled, tried again. */
import { Problem, again, call, callJson, troubleOf } from "./api.js";
import { effect } from "./html.js";
import { t, trouble } from "./i18n.js";
import { byDocument, ended, inOrder, rangeOf, unread } from "./plan.js";

/** Jobs that this page has at the server. */
const AT_ONCE = 3;
const AGAIN_SECONDS = 2;
/**
 * Seconds after which a job is asked for at the latest. Not by a stream for each: a browser has six connections to a
 * server, for all its tabs, and a second tab would wait until a job of the first one ends.
 */
const ASK_SECONDS = 1;
/** A network that went away says nothing. */
const ANSWER_MS = 25_000;

/**
 * @param {typeof import("./store.js")} store
 * @param {import("./uploads.js").Uploads} uploads
 */
export function createQueue(store, uploads) {
  /** What ends a job here. @type {Map<string, AbortController>} */
  const running = new Map();

  /** Have pages read. @param {string[]} ids @param {import("./store.js").Asked} asked */
  function read(ids, asked) {
    const wanted = new Set(ids);
    const pages = store.pages.value.filter((page) => wanted.has(page.id) && !store.documents.value.get(page.docId)?.error);
    store.addJobs(
      byDocument(pages).map(({ docId, pageIds }) => ({
        id: store.newId("job"), docId, pageIds, asked, state: "waiting", server: null, fetched: 0, againAt: null, error: null,
      })),
    );
    pump();
  }

  function pump() {
    for (const job of store.jobs.value) {
      if (running.size >= AT_ONCE) return;
      if (job.state !== "waiting" || running.has(job.id)) continue;
      const stop = new AbortController();
      running.set(job.id, stop);
      void run(job, stop.signal).finally(() => {
        running.delete(job.id);
        pump();
      });
    }
  }

  /** @param {import("./store.js").Job} job @param {AbortSignal} signal */
  async function run(job, signal) {
    try {
      const sent = await send(job, signal);
      if (sent === null) return finish(job.id, "cancelled");
      store.patchJob(job.id, { server: sent, state: sent.state === "queued" ? "queued" : "running" });
      const last = await follow(job, sent.id, signal);
      finish(job.id, last.state === "done" ? "done" : last.state === "cancelled" ? "cancelled" : "failed", last.error && serverTrouble(last.error));
    } catch (error) {
      if (signal.aborted) finish(job.id, "cancelled");
      else finish(job.id, "failed", troubleOf(error));
    }
  }

  /** Send a job until the server takes it; null where it is cancelled meanwhile. @param {import("./store.js").Job} job @param {AbortSignal} signal */
  async function send(job, signal) {
    const doc = store.documents.value.get(job.docId);
    if (!doc) return null;
    for (let tries = 1; ; tries += 1) {
      // Some may have been deleted while it waited; results come in this order.
      const left = inOrder(store.pages.value, job.pageIds);
      if (left.length === 0) return null;
      store.patchJob(job.id, { state: "sending", againAt: null, pageIds: left.map((page) => page.id) });
      try {
        const form = () => formOf(job, rangeOf(left.map((page) => page.index)));
        if (doc.kind === "picture") return await submit(form(), (of) => of.append("file", doc.file, doc.name), signal);
        return await uploads.by(doc, (fileId) => submit(form(), (of) => of.append("file_id", fileId), signal));
      } catch (error) {
        const seconds = error instanceof Problem ? again(error, tries) : null;
        if (seconds === null) throw error;
        store.patchJob(job.id, { state: "full", againAt: Date.now() + 1000 * seconds });
        await pause(seconds, signal);
      }
    }
  }

  /** Follow a job to its end, over broken connections. @param {import("./store.js").Job} job @param {string} id @param {AbortSignal} signal @returns {Promise<import("./store.js").ServerJob>} */
  async function follow(job, id, signal) {
    for (;;) {
      const known = store.server.peek();
      try {
        /** @type {import("./store.js").ServerJob} */
        const said = await callJson(`v1/jobs/${id}`, { signal: AbortSignal.any([signal, AbortSignal.timeout(ANSWER_MS)]) });
        store.patchJob(job.id, { server: said, state: said.state === "queued" ? "queued" : "running" });
        await fetchResults(job.id, id, said, signal);
        if (ended(said.state)) return said;
      } catch (error) {
        if (!(error instanceof Problem) || (error.status !== 0 && error.status !== 429 && error.status < 500)) throw error;
        await pause(AGAIN_SECONDS, signal);
      }
      await changed(known, signal);
    }
  }

  /**
   * Wait until the server's state is another one: it is told as pages are read, also to a page that is in the background,
   * whose timers are slow. @param {unknown} known @param {AbortSignal} signal @returns {Promise<void>}
   */
  async function changed(known, signal) {
    const over = new AbortController();
    const forget = effect(() => {
      if (store.server.value !== known) over.abort();
    });
    try {
      await pause(ASK_SECONDS, AbortSignal.any([signal, over.signal]));
    } catch (error) {
      if (signal.aborted) throw error;
    } finally {
      forget();
    }
  }

  /** Fetch what was read since the last time. @param {string} jobId @param {string} id @param {import("./store.js").ServerJob} said @param {AbortSignal} signal */
  async function fetchResults(jobId, id, said, signal) {
    const job = store.jobs.value.find((each) => each.id === jobId);
    if (!job || said.pages.done <= job.fetched) return;
    const { pages } = await callJson(`v1/jobs/${id}/result?from=${job.fetched}`, { signal });
    const changes = new Map();
    for (const [at, result] of pages.entries()) {
      const failed = result.error ? serverTrouble(result.error) : null;
      const ended = failed ? { state: "failed", error: failed } : { state: "done", result };
      changes.set(job.pageIds[job.fetched + at], { ...ended, serverJob: id });
    }
    store.patchReadings(jobId, changes);
    store.unsaved.value = true;
    store.patchJob(jobId, { fetched: job.fetched + pages.length });
  }

  /** @param {string} id @param {"done" | "failed" | "cancelled"} state @param {import("./store.js").Trouble | null} [error] */
  function finish(id, state, error = null) {
    const job = store.jobs.value.find((each) => each.id === id);
    if (!job) return;
    store.patchJob(id, { state, error, againAt: null });
    const name = store.documents.value.get(job.docId)?.name ?? "";
    if (state !== "cancelled") store.announce(error ? `${name}: ${trouble(error)}` : t("progress.read", { name, n: job.fetched }));
    // Pages that were not read are what the job is.
    const left = store.pages.value.filter((page) => page.readings.some((each) => each.jobId === id && each.state === "waiting"));
    const change = { state: state === "cancelled" ? /** @type {const} */ ("cancelled") : /** @type {const} */ ("failed"), error };
    store.patchReadings(id, new Map(left.map((page) => [page.id, change])));
  }

  /** Cancel a job; what was read of it stays. @param {string} id */
  async function cancel(id) {
    const job = store.jobs.value.find((each) => each.id === id);
    if (!job || ended(job.state)) return;
    if (job.state === "waiting") return finish(id, "cancelled");
    if (job.server === null) return running.get(id)?.abort();
    try {
      await call(`v1/jobs/${job.server.id}`, { method: "DELETE" }); // what follows it says that it ended
    } catch {
      running.get(id)?.abort();
    }
  }

  /** Read again what a job couldn't. @param {string} id */
  function retry(id) {
    const job = store.jobs.value.find((each) => each.id === id);
    if (!job) return;
    const ids = unread(store.pages.value, job);
    store.dropJob(id);
    store.dropUnread(id);
    read(ids, job.asked);
  }

  /** Take pages away, and what is read of them: the server drops it, too. @param {Set<string>} ids */
  function remove(ids) {
    const had = atServer(store.pages.value);
    store.remove(ids);
    const left = new Set(store.pages.value.map((page) => page.id));
    const kept = atServer(store.pages.value);
    // Of jobs that are tried again, or dismissed, only the readings know.
    const gone = new Map([...had].filter((id) => !kept.has(id)).map((id) => [id, 1]));
    for (const job of store.jobs.value.filter((each) => !each.pageIds.some((id) => left.has(id)))) {
      running.get(job.id)?.abort();
      if (job.server) gone.set(job.server.id, ended(job.state) ? 1 : 2); // cancelled, then dropped
      store.dropJob(job.id);
    }
    for (const [id, calls] of gone) for (let made = 0; made < calls; made += 1) void call(`v1/jobs/${id}`, { method: "DELETE" }).catch(() => {});
    uploads.tidy();
  }

  /** Cancel all that waits or runs. */
  function cancelAll() {
    for (const job of store.jobs.value.toReversed()) void cancel(job.id);
  }

  /** Leave nothing to be read for a page that is closed. */
  function leave() {
    for (const job of store.jobs.value) {
      if (job.server && !ended(job.state)) void call(`v1/jobs/${job.server.id}`, { method: "DELETE", keepalive: true }).catch(() => {});
    }
  }

  return { read, cancel, cancelAll, retry, remove, leave };
}
/** @typedef {ReturnType<typeof createQueue>} Queue */

/** @param {{message: string, code: string, param?: string | null}} error @returns {import("./store.js").Trouble} */
function serverTrouble({ message, code, param = null }) {
  return { message, code, param, status: 0 };
}

/** Jobs of the server that have something of these pages. @param {import("./store.js").Page[]} pages */
function atServer(pages) {
  return new Set(pages.flatMap((page) => page.readings.flatMap((each) => each.serverJob ?? [])));
}

/** @param {FormData} form @param {(form: FormData) => void} add Adds the document, after what a server can refuse without it. @param {AbortSignal} signal */
function submit(form, add, signal) {
  add(form);
  return callJson("v1/jobs", { method: "POST", form, signal });
}

/** @param {import("./store.js").Job} job @param {string} pages */
function formOf({ asked }, pages) {
  const form = new FormData();
  form.append("pages", pages);
  form.append("prompt_type", asked.task);
  form.append("model", asked.model);
  if (asked.task === "find") form.append("find_term", asked.findTerm);
  if (asked.task === "freeform") form.append("custom_prompt", asked.prompt);
  return form;
}

/** @param {number} seconds @param {AbortSignal} signal */
function pause(seconds, signal) {
  return new Promise((resolve, reject) => {
    const stop = () => reject(new DOMException("cancelled", "AbortError"));
    if (signal.aborted) return stop();
    const timer = setTimeout(() => {
      signal.removeEventListener("abort", stop);
      resolve(undefined);
    }, 1000 * seconds);
    signal.addEventListener("abort", () => (clearTimeout(timer), stop()), { once: true });
  });
}
