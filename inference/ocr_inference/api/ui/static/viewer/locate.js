// @ts-check
/** Ask a model where a term stands on a page: task `find` of the server, which also finds what the text doesn't have. */

import { callJson, Problem } from "../api.js";
import { located } from "./state.js";

/**
 * Look for a term on pages, one after the other.
 *
 * @param {typeof import("../store.js")} store
 * @param {import("../store.js").Page[]} pages
 * @param {string} term
 * @param {AbortSignal} signal
 */
export async function locate(store, pages, term, signal) {
  const put = (/** @type {string} */ id, /** @type {Partial<import("./state.js").Located>} */ found) => {
    const empty = { term, state: /** @type {const} */ ("waiting"), boxes: [], size: null, text: "", error: null };
    located.value = new Map(located.value).set(id, { ...empty, ...found });
  };
  for (const page of pages) put(page.id, {});
  for (const page of pages) {
    try {
      const answer = await asked(store, page, term, signal);
      put(page.id, { state: "done", boxes: answer.boxes, size: answer.image_dims, text: answer.text });
    } catch (error) {
      if (signal.aborted) break;
      if (!(error instanceof Problem)) throw error;
      put(page.id, { state: "failed", error: error.trouble });
    }
  }
  if (!signal.aborted) return;
  located.value = new Map([...located.value].filter(([, { state }]) => state !== "waiting"));
}

/**
 * @param {typeof import("../store.js")} store
 * @param {import("../store.js").Page} page
 * @param {string} term
 * @param {AbortSignal} signal
 */
async function asked(store, page, term, signal) {
  const document = store.documents.value.get(page.docId);
  if (!document) throw new Problem({ code: "gone", message: "the file is gone", status: 0, param: null });
  const form = new FormData();
  form.append("file", document.file, document.name);
  form.append("prompt_type", "find");
  form.append("find_term", term);
  const model = finder(store);
  if (model) form.append("model", model);
  if (document.kind !== "picture") form.append("pages", String(page.index + 1));
  const answer = await callJson("ocr", { method: "POST", form, signal });
  const own = answer.pages?.[0] ?? answer;
  if (own.error) throw new Problem({ param: null, status: 200, ...own.error });
  return own;
}

/** The model that looks: the chosen one if it can, else the first that can. @param {typeof import("../store.js")} store */
export function finder(store) {
  const able = store.models.value.filter((model) => !model.tasks || model.tasks.includes("find"));
  return (able.find((model) => model.id === store.asked.value.model) ?? able[0])?.id ?? null;
}
