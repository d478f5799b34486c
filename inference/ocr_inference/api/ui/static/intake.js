// @ts-check
/** Files become documents and pages: chosen, dropped (folders too) or pasted. */
import { t } from "./i18n.js";
import { HEAD_BYTES, kindOf } from "./kinds.js";

/** Files taken at once, and pages altogether: a list of more helps nobody. */
export const MOST_FILES = 1000;
const COUNTED_TOGETHER = 2;
/** Statuses of errors that pass: no connection, no key, a server that is being restarted. */
const PASSING = new Set([0, 401, 403, 502, 503, 504]);

/**
 * @typedef {object} Found
 * @property {File} file
 * @property {string} path With its folders where it came in one.
 */

/**
 * @param {typeof import("./store.js")} store
 * @param {import("./pictures.js").Pictures} pictures
 */
export function createIntake(store, pictures) {
  /** @type {string[]} */
  const uncounted = [];
  let counting = 0;

  /** Take files in the order of their names where they came in folders. @param {Found[]} found */
  async function take(found) {
    const inFolders = found.some(({ path }) => path.includes("/"));
    const order = new Intl.Collator(undefined, { numeric: true });
    const sorted = inFolders ? found.toSorted((one, other) => order.compare(one.path, other.path)) : found;
    const room = Math.max(0, MOST_FILES - store.documents.value.size);
    const docs = [];
    const refused = [];
    for (const { file, path: given } of sorted.slice(0, room)) {
      const path = plainName(given);
      const kind = await kindOfFile(file);
      if (kind === null) refused.push(path);
      else docs.push(makeDoc(file, path, kind));
    }
    store.add(docs, docs.map(firstPage));
    uncounted.push(...docs.filter((doc) => doc.pageCount === null).map((doc) => doc.id));
    count();
    explain(refused, inFolders, sorted.length - room);
  }

  /** @param {string[]} refused @param {boolean} inFolders @param {number} more */
  function explain(refused, inFolders, more) {
    if (more > 0) store.say(t("intake.too_many", { most: MOST_FILES, n: more }), "error");
    if (refused.length === 0) return;
    if (inFolders) store.say(t("intake.left_out", { n: refused.length }));
    else if (refused.length === 1) store.say(t("intake.refused", { name: refused[0] }), "error");
    else store.say(t("intake.refused_more", { name: refused[0], n: refused.length - 1 }), "error");
  }

  /** Count the pages of documents that wait for it, two at a time. */
  function count() {
    while (counting < COUNTED_TOGETHER && uncounted.length > 0) {
      const doc = store.documents.value.get(/** @type {string} */ (uncounted.shift()));
      if (!doc) continue;
      counting += 1;
      void pictures.count(doc).finally(() => {
        counting -= 1;
        count();
      });
    }
  }

  /** Count documents again whose error was the server's or the way's to it, not theirs. */
  function recount() {
    const failed = [...store.documents.value.values()].filter((doc) => doc.pageCount === null && doc.error !== null && PASSING.has(doc.error.status));
    for (const doc of failed) store.patchDocument(doc.id, { error: null });
    uncounted.push(...failed.map((doc) => doc.id));
    count();
  }

  /** @param {File} file @param {string} path @param {import("./kinds.js").Kind} kind @returns {import("./store.js").Doc} */
  function makeDoc(file, path, kind) {
    return { id: store.newId("doc"), name: plainName(file.name), path, file, kind, pageCount: kind === "picture" ? 1 : null, error: null };
  }

  /** @param {import("./store.js").Doc} doc */
  function firstPage(doc) {
    const picture = doc.kind === "picture" ? URL.createObjectURL(doc.file) : null;
    return store.newPage(doc.id, 0, picture);
  }

  return { take, recount };
}
/** @typedef {ReturnType<typeof createIntake>} Intake */

/** A name without what turns the text around it, or what isn't seen. @param {string} name */
export function plainName(name) {
  return name.replace(/[\p{Cc}\p{Bidi_Control}\p{Zl}\p{Zp}]/gu, "");
}

/** @param {File} file */
async function kindOfFile(file) {
  try {
    return kindOf(new Uint8Array(await file.slice(0, HEAD_BYTES).arrayBuffer()));
  } catch {
    return null; // a file that can't be read, such as one that is gone meanwhile
  }
}

/** Files of an `<input>`. @param {FileList | null} list @returns {Found[]} */
export function ofInput(list) {
  return [...(list ?? [])].filter((file) => !hidden(file.webkitRelativePath || file.name)).map((file) => ({ file, path: file.webkitRelativePath || file.name }));
}

/**
 * Files that were dropped or pasted; folders are walked. Entries have to be asked for before anything is waited for.
 * @param {DataTransfer} data @returns {Promise<Found[]>}
 */
export async function ofTransfer(data) {
  const items = [...data.items].filter((item) => item.kind === "file");
  const entries = items.map((item) => ({ entry: item.webkitGetAsEntry?.() ?? null, file: item.getAsFile() }));
  /** @type {Found[]} */
  const found = [];
  for (const { entry, file } of entries) {
    if (entry?.isDirectory) await walk(/** @type {FileSystemDirectoryEntry} */ (entry), found);
    else if (file) found.push({ file, path: file.name });
  }
  return found;
}

/** @param {FileSystemDirectoryEntry} folder @param {Found[]} found */
async function walk(folder, found) {
  const reader = folder.createReader();
  for (;;) {
    // A part of the folder each time, until there is none left.
    const entries = await new Promise((resolve) => reader.readEntries(resolve, () => resolve([])));
    if (entries.length === 0) return;
    for (const entry of entries) {
      if (found.length > MOST_FILES || hidden(entry.name)) continue;
      if (entry.isDirectory) await walk(entry, found);
      else {
        const file = await new Promise((resolve) => entry.file(resolve, () => resolve(null)));
        if (file) found.push({ file, path: entry.fullPath.replace(/^\//, "") });
      }
    }
  }
}

/** Whether a system or a program put it there for itself. @param {string} path */
function hidden(path) {
  return path.split("/").some((part) => part.startsWith(".") || part === "Thumbs.db" || part === "desktop.ini");
}
