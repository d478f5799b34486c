// @ts-check
/**
 * State of the page, and its one owner: what others know, they read from these signals, and what they change, they
 * change by the functions here. Objects in signals are never changed, only replaced.
 */
import { batch, computed, signal } from "./html.js";

/**
 * @typedef {"document" | "ocr" | "free" | "figure" | "describe" | "find" | "freeform"} Task
 *
 * @typedef {object} Doc File that the person added.
 * @property {string} id
 * @property {string} name The file's own name, as text from outside.
 * @property {string} path Its folder and name where a folder was added, else the name.
 * @property {File} file
 * @property {"picture" | "pdf" | "tiff" | "other"} kind "picture" is one that the browser shows itself.
 * @property {number | null} pageCount Null until the server has counted them; `pages` has the first one till then.
 * @property {Trouble | null} error Why it can't be read at all.
 *
 * @typedef {object} Box
 * @property {string} label
 * @property {[number, number, number, number]} box x1, y1, x2, y2 in pixels of `image_dims`.
 *
 * @typedef {object} Result Page as the server read it; the fields of `pages` in its answers.
 * @property {number} index From 0, in the document.
 * @property {string} text Markdown for the task "document", else plain text. Untrusted: a model wrote it.
 * @property {string} raw_text
 * @property {Box[]} boxes
 * @property {{w: number, h: number}} image_dims
 * @property {number | null} [dpi]
 * @property {{text: string, corners: [number, number][]}[]} [lines] Texts and their places, clockwise from the text's top left.
 * @property {Record<string, any>} metadata
 *
 * @typedef {object} Asked What a page is read for.
 * @property {Task} task
 * @property {string} model
 * @property {string} findTerm Empty but for "find".
 * @property {string} prompt Empty but for "freeform".
 *
 * @typedef {object} Reading One time that a page was read, or is to be.
 * @property {string} jobId `Job.id`.
 * @property {Asked} asked
 * @property {"waiting" | "done" | "failed" | "cancelled"} state
 * @property {Result | null} result
 * @property {Trouble | null} error
 * @property {string} [serverJob] Job of the server that has the result, or the page's own error.
 *
 * @typedef {object} Page
 * @property {string} id
 * @property {string} docId
 * @property {number} index From 0, in its document.
 * @property {string | null} thumb URL of a small picture (blob: or of the server); null while there is none.
 * @property {string | null} picture URL of the whole page, upright; null while there is none.
 * @property {{w: number, h: number} | null} size Of that picture, pixels.
 * @property {Reading[]} readings Oldest first; the last one is shown, unless `shown` says otherwise.
 * @property {number | null} shown Index in `readings`; null is the last one.
 *
 * @typedef {object} Trouble What went wrong, to be shown by `i18n.trouble`.
 * @property {string} code The server's, or "offline", "unreadable_answer".
 * @property {string} message The server's own words, in English.
 * @property {number} status HTTP status; 0 without an answer.
 * @property {string | null} param
 *
 * @typedef {object} Job Pages of one document that are sent to be read together.
 * @property {string} id Of this page's own making.
 * @property {string} docId
 * @property {string[]} pageIds In the order in which the server reads them.
 * @property {Asked} asked
 * @property {"waiting" | "sending" | "full" | "queued" | "running" | "done" | "failed" | "cancelled"} state "waiting": here,
 *   for others to end; "full": the server's queue is, and it is tried again at `againAt`.
 * @property {ServerJob | null} server As `GET /v1/jobs/{id}` says it.
 * @property {number} fetched Pages whose results are here.
 * @property {number | null} againAt `Date.now()` of the next try.
 * @property {Trouble | null} error
 *
 * @typedef {object} ServerJob
 * @property {string} id
 * @property {"queued" | "running" | "done" | "failed" | "cancelled" | "expired"} state
 * @property {string} model
 * @property {number | null} queued_ahead
 * @property {{total: number, done: number, failed: number}} pages
 * @property {number | null} pages_per_second
 * @property {number | null} estimated_end_at Unix time.
 * @property {{message: string, code: string} | null} error
 *
 * @typedef {object} Model Row of `GET /v1/models`.
 * @property {string} id
 * @property {string | null} engine
 * @property {string} state
 * @property {string} location
 * @property {Task[]} [tasks] That it can do.
 *
 * @typedef {object} Notice Message to the person, which is also said by screen readers.
 * @property {string} id
 * @property {"info" | "error"} kind
 * @property {string} text In the person's language.
 */

/** Documents, by their ids. @type {import("./html.js").Signal<Map<string, Doc>>} */
export const documents = signal(new Map());
/** Pages in the person's order. @type {import("./html.js").Signal<Page[]>} */
export const pages = signal([]);
/** Id of the page that is shown; null without pages. @type {import("./html.js").Signal<string | null>} */
export const currentId = signal(null);
/** Ids of pages that are ticked. @type {import("./html.js").Signal<Set<string>>} */
export const ticked = signal(new Set());
/** Jobs, oldest first. @type {import("./html.js").Signal<Job[]>} */
export const jobs = signal([]);
/** Models of the server, its default one first. @type {import("./html.js").Signal<Model[]>} */
export const models = signal([]);
/** The server's state as `GET /v1/state` has it; null until it came. @type {import("./html.js").Signal<any>} */
export const server = signal(null);
/** Whether the server answers: its stream of states is open. */
export const connected = signal(false);
/** What is read for next. @type {import("./html.js").Signal<Asked>} */
export const asked = signal({ task: "document", model: "", findTerm: "", prompt: "" });
/** API key; in memory only, gone with the page. */
export const apiKey = signal("");
/** Whether the server refused a call for want of the right key; a new key is hoped to be right. */
export const keyRefused = signal(false);
/** Admin token; in memory only, gone with the page. */
export const adminToken = signal("");
/** @type {import("./html.js").Signal<Notice[]>} */
export const notices = signal([]);

/** The page that is shown; null without pages. */
export const current = computed(() => pages.value.find((page) => page.id === currentId.value) ?? null);
/** The reading of it that is shown; null where there is none. */
export const shown = computed(() => (current.value === null ? null : shownReading(current.value)));

/** @param {Page} page @returns {Reading | null} */
export function shownReading(page) {
  return page.readings[page.shown ?? page.readings.length - 1] ?? null;
}

let last = 0;
/** A new id, such as "page-7". @param {string} kind */
export function newId(kind) {
  last += 1;
  return `${kind}-${last}`;
}

/** Add documents with their pages, after all others. @param {Doc[]} docs @param {Page[]} added */
export function add(docs, added) {
  batch(() => {
    documents.value = new Map([...documents.value, ...docs.map((doc) => /** @type {const} */ ([doc.id, doc]))]);
    pages.value = [...pages.value, ...added];
    currentId.value ??= added[0]?.id ?? null;
  });
}

/** @param {string} id @param {Partial<Doc>} changes */
export function patchDocument(id, changes) {
  const doc = documents.value.get(id);
  if (doc) documents.value = new Map(documents.value).set(id, { ...doc, ...changes });
}

/** @param {string} docId @param {number} index @param {string | null} picture @returns {Page} */
export function newPage(docId, index, picture) {
  return { id: newId("page"), docId, index, thumb: null, picture, size: null, readings: [], shown: null };
}

/** Say how many pages a document has: those that weren't known follow its first one. @param {string} id @param {number} count */
export function countPages(id, count) {
  batch(() => {
    patchDocument(id, { pageCount: count });
    pages.value = pages.value.flatMap((page) =>
      page.docId === id && page.index === 0 ? [page, ...Array.from({ length: count - 1 }, (_, at) => newPage(id, at + 1, null))] : [page],
    );
  });
}

/** @param {string} id @param {Partial<Page>} changes */
export function patchPage(id, changes) {
  pages.value = pages.value.map((page) => (page.id === id ? { ...page, ...changes } : page));
}

/** Take pages away, their pictures too; another one is shown where the shown one is among them. @param {Set<string>} ids */
export function remove(ids) {
  const kept = pages.value.filter((page) => !ids.has(page.id));
  const used = new Set(kept.map((page) => page.docId));
  const at = pages.value.findIndex((page) => page.id === currentId.value);
  for (const page of pages.value) {
    if (ids.has(page.id)) for (const url of [page.thumb, page.picture]) if (url?.startsWith("blob:")) URL.revokeObjectURL(url);
  }
  batch(() => {
    if (currentId.value !== null && ids.has(currentId.value)) currentId.value = kept[Math.min(at, kept.length - 1)]?.id ?? null;
    pages.value = kept;
    ticked.value = new Set([...ticked.value].filter((id) => !ids.has(id)));
    documents.value = new Map([...documents.value].filter(([id]) => used.has(id)));
  });
}

/** Put a page at another place. @param {string} id @param {number} to Index from 0 in the list without it. */
export function move(id, to) {
  const page = pages.value.find((each) => each.id === id);
  if (!page) return;
  const others = pages.value.filter((each) => each.id !== id);
  others.splice(Math.max(0, Math.min(to, others.length)), 0, page);
  pages.value = others;
}

/** Add jobs; their pages wait to be read by them. @param {Job[]} added */
export function addJobs(added) {
  const jobOf = new Map(added.flatMap((job) => job.pageIds.map((id) => /** @type {const} */ ([id, job]))));
  batch(() => {
    jobs.value = [...jobs.value, ...added];
    pages.value = pages.value.map((page) => {
      const job = jobOf.get(page.id);
      if (!job) return page;
      const reading = { jobId: job.id, asked: job.asked, state: /** @type {const} */ ("waiting"), result: null, error: null };
      return { ...page, readings: [...page.readings, reading], shown: null };
    });
  });
}

/** Change readings of a job, by its pages' ids. @param {string} jobId @param {Map<string, Partial<Reading>>} changes */
export function patchReadings(jobId, changes) {
  pages.value = pages.value.map((page) => {
    const change = changes.get(page.id);
    if (!change) return page;
    return { ...page, readings: page.readings.map((each) => (each.jobId === jobId ? { ...each, ...change } : each)) };
  });
}

/** Forget a job. @param {string} id */
export function dropJob(id) {
  jobs.value = jobs.value.filter((job) => job.id !== id);
}

/** Forget readings of a job that came to nothing. @param {string} jobId */
export function dropUnread(jobId) {
  pages.value = pages.value.map((page) => {
    const readings = page.readings.filter((each) => each.jobId !== jobId || each.state === "done");
    return readings.length === page.readings.length ? page : { ...page, readings, shown: null };
  });
}

/** @param {string} id @param {Partial<Job>} changes */
export function patchJob(id, changes) {
  jobs.value = jobs.value.map((job) => (job.id === id ? { ...job, ...changes } : job));
}

/** @param {string} key */
export function useKey(key) {
  batch(() => {
    apiKey.value = key;
    keyRefused.value = false;
  });
}

/** Whether something was read that nobody copied or exported yet. */
export const unsaved = signal(false);

/** Said by screen readers, and not shown: what the eye sees anyway. */
export const announced = signal("");

/** @param {string} text */
export function announce(text) {
  announced.value = text;
}

/** Show a message for some seconds. @param {string} text @param {"info" | "error"} [kind] */
export function say(text, kind = "info") {
  const id = newId("notice");
  notices.value = [...notices.value.slice(-2), { id, kind, text }];
  setTimeout(() => dismiss(id), kind === "error" ? 20_000 : 5_000);
}

/** @param {string} id */
export function dismiss(id) {
  notices.value = notices.value.filter((notice) => notice.id !== id);
}
