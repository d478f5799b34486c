// @ts-check
/** What is read next, and how far it is: pure. */

/** @param {string} state Of a job. */
export const ended = (state) => ["done", "failed", "cancelled", "expired"].includes(state);

/** Pages by document, in the order of the list; within a document as the server reads them. @param {import("./store.js").Page[]} pages */
export function byDocument(pages) {
  /** @type {Map<string, import("./store.js").Page[]>} */
  const found = new Map();
  for (const page of pages) found.set(page.docId, [...(found.get(page.docId) ?? []), page]);
  return [...found].map(([docId, those]) => ({ docId, pageIds: those.toSorted((one, other) => one.index - other.index).map((page) => page.id) }));
}

/** Pages of a job that are still there, as the server reads them. @param {import("./store.js").Page[]} pages @param {string[]} ids */
export function inOrder(pages, ids) {
  return pages.filter((page) => ids.includes(page.id)).toSorted((one, other) => one.index - other.index);
}

/** Pages as the server takes them: [0, 1, 2, 6] is "1-3,7". @param {number[]} indices */
export function rangeOf(indices) {
  /** @type {[number, number][]} */
  const ranges = [];
  for (const index of indices.toSorted((one, other) => one - other)) {
    const last = ranges.at(-1);
    if (last && index <= last[1] + 1) last[1] = index;
    else ranges.push([index, index]);
  }
  return ranges.map(([from, to]) => (from === to ? `${from + 1}` : `${from + 1}-${to + 1}`)).join(",");
}

/** Whether two readings are of the same kind. @param {import("./store.js").Asked} one @param {import("./store.js").Asked} other */
export function sameAsked(one, other) {
  return (
    one.task === other.task && one.model === other.model &&
    (one.task !== "find" || one.findTerm === other.findTerm) && (one.task !== "freeform" || one.prompt === other.prompt)
  );
}

/**
 * What the button does: the ticked pages, or all that weren't read so yet; all of them again where there are none, and
 * none while some are being read.
 * @param {import("./store.js").Page[]} pages @param {Set<string>} ticked @param {import("./store.js").Asked} asked
 */
export function toRead(pages, ticked, asked) {
  const chosen = ticked.size > 0 ? pages.filter((page) => ticked.has(page.id)) : pages;
  const fresh = chosen.filter((page) => !page.readings.some((each) => ["waiting", "done"].includes(each.state) && sameAsked(each.asked, asked)));
  const again = fresh.length === 0;
  const waits = chosen.some((page) => page.readings.some((each) => each.state === "waiting" && sameAsked(each.asked, asked)));
  return { ids: (again ? (waits ? [] : chosen) : fresh).map((page) => page.id), again };
}

/** Pages of a job that it didn't read. @param {import("./store.js").Page[]} pages @param {import("./store.js").Job} job */
export function unread(pages, job) {
  return pages.filter((page) => page.readings.some((each) => each.jobId === job.id && each.state !== "done")).map((page) => page.id);
}

/** What is read with these settings: a model that there is, and a task that it can do. @param {import("./store.js").Asked} asked @param {import("./store.js").Model[]} models @returns {import("./store.js").Asked} */
export function possible(asked, models) {
  const model = models.find((each) => each.id === asked.model) ?? models[0];
  if (!model) return asked;
  const tasks = model.tasks ?? [];
  return { ...asked, model: model.id, task: tasks.includes(asked.task) || tasks.length === 0 ? asked.task : tasks[0] };
}

/** Seconds that a job takes yet; null where nobody knows. @param {import("./store.js").Job} job @param {number} now `Date.now()` */
export function secondsLeft(job, now) {
  const end = job.server?.estimated_end_at;
  return end ? Math.max(0, end - now / 1000) : null;
}
