// @ts-check
/** Documents at the server: sent once, then drawn and read by their ids; sent again where the server let them go. */
import { Problem, again, call, callJson } from "./api.js";

/** @param {typeof import("./store.js")} store */
export function createUploads(store) {
  /** Uploads that run, and ids that came of them, by document. @type {Map<string, Promise<string>>} */
  const ids = new Map();

  /** @param {import("./store.js").Doc} doc @returns {Promise<string>} */
  async function send(doc) {
    for (let tries = 1; ; tries += 1) {
      const form = new FormData();
      form.append("file", doc.file, doc.name);
      try {
        return (await callJson("v1/files", { method: "POST", form })).id;
      } catch (error) {
        const seconds = error instanceof Problem ? again(error, tries) : null;
        if (seconds === null) throw error;
        await new Promise((resolve) => setTimeout(resolve, 1000 * seconds));
      }
    }
  }

  /** @param {import("./store.js").Doc} doc @returns {Promise<string>} */
  function idOf(doc) {
    const known = ids.get(doc.id);
    if (known) return known;
    const sent = send(doc);
    ids.set(doc.id, sent);
    sent.catch(() => ids.delete(doc.id)); // the next one who needs it tries again
    return sent;
  }

  /**
   * Do something with the document's id at the server. @template T
   * @param {import("./store.js").Doc} doc @param {(id: string) => Promise<T>} act @returns {Promise<T>}
   */
  async function by(doc, act) {
    const sent = idOf(doc);
    try {
      return await act(await sent);
    } catch (error) {
      if (!(error instanceof Problem) || error.code !== "file_not_found") throw error;
      if (ids.get(doc.id) === sent) ids.delete(doc.id);
      return act(await idOf(doc));
    }
  }

  /** Have the server drop documents that the list no longer has. */
  function tidy() {
    for (const [docId, sent] of ids) {
      if (store.documents.value.has(docId)) continue;
      ids.delete(docId);
      void sent.then((id) => call(`v1/files/${id}`, { method: "DELETE" })).catch(() => {});
    }
  }

  return { by, tidy };
}
/** @typedef {ReturnType<typeof createUploads>} Uploads */
