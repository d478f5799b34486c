// @ts-check
/**
 * Files of what was read, in the order of the list. Markdown, text and JSON are made here of what is shown; Word and PDF by the server,
 * of what it keeps. A page that wasn't read has a word about it in its place.
 *
 * @typedef {import("../store.js").Page} Page
 * @typedef {typeof FORMATS[number]} Format
 * @typedef {{blob: Blob, name: string, missing: number}} Exported `missing`: pages whose text isn't in it
 */

import { call, Problem } from "../api.js";
import { bodyOf } from "./body.js";
import { markdownFile } from "./figures.js";
import { visible } from "./visible.js";

export const FORMATS = /** @type {const} */ (["markdown", "docx", "pdf", "text", "json"]);
const SUFFIXES = { markdown: "md", docx: "docx", pdf: "pdf", text: "txt", json: "json" };
/** Between pages of a text. */
const FORM_FEED = "\f";

/**
 * @param {typeof import("../store.js")} store
 * @param {import("../pictures.js").Pictures} pictures
 * @param {Page[]} pages
 * @param {Format} format
 * @param {string} several what a file of several documents is called
 * @returns {Promise<Exported>}
 */
export async function exported(store, pictures, pages, format, several) {
  const stem = stemOf(store, pages) ?? several;
  const name = `${stem}.${SUFFIXES[format]}`;
  const missing = pages.filter((page) => !store.shownReading(page)?.result).length;
  switch (format) {
    case "markdown":
      return { ...(await markdownFile(store, pictures, pages, stem, (page) => fault(store, page))), missing };
    case "text":
      return { blob: new Blob([pages.map((page) => textOf(store, page)).join(`\n${FORM_FEED}`), "\n"], { type: "text/plain" }), name, missing };
    case "json":
      return { blob: new Blob([JSON.stringify({ pages: pages.map((page) => valueOf(store, page)) }, null, 2), "\n"], { type: "application/json" }), name, missing };
    default:
      return { blob: await made(store, pages, format, name), name, missing };
  }
}

/** The name of the document that all pages are of, without its end; null where they are of several. @param {typeof import("../store.js")} store @param {Page[]} pages */
function stemOf(store, pages) {
  const [docId, ...others] = new Set(pages.map((page) => page.docId));
  const name = store.documents.value.get(docId)?.name;
  return others.length || !name ? null : name.replace(/(?<=.)\.[^.]{0,12}$/, "");
}

/** What stands in the place of a page without a text; null where it has one. @param {typeof import("../store.js")} store @param {Page} page */
function fault(store, page) {
  const reading = store.shownReading(page);
  if (reading?.result) return null;
  const why = reading?.error?.message ?? "it wasn't read";
  return `page ${page.index + 1} of ${store.documents.value.get(page.docId)?.name ?? "a document"} is missing: ${why}`;
}

/** @param {typeof import("../store.js")} store @param {Page} page */
function textOf(store, page) {
  const reading = store.shownReading(page);
  return reading?.result ? visible(bodyOf(reading.result, reading.asked.task)).text : `(${fault(store, page)})`;
}

/** @param {typeof import("../store.js")} store @param {Page} page */
function valueOf(store, page) {
  const reading = store.shownReading(page);
  const { task, model, findTerm, prompt } = reading?.asked ?? {};
  const asked = { task, model, find_term: findTerm || undefined, custom_prompt: prompt || undefined };
  const { text, boxes, image_dims, lines, metadata } = reading?.result ?? {};
  return {
    document: store.documents.value.get(page.docId)?.path,
    page: page.index + 1,
    ...(reading ? asked : {}),
    ...(reading?.result ? { text, boxes, image_dims, lines, metadata } : { error: reading?.error ?? { code: "unread", message: "it wasn't read" } }),
  };
}

/**
 * Have the server make a file of the pages that it has results of.
 *
 * @param {typeof import("../store.js")} store
 * @param {Page[]} pages
 * @param {Format} format
 * @param {string} filename
 */
async function made(store, pages, format, filename) {
  const known = pages.flatMap((page) => {
    const job = store.shownReading(page)?.serverJob;
    return job ? [{ job, page: page.index + 1 }] : [];
  });
  if (!known.length) throw new Problem({ code: "unread", message: "none of these pages was read", status: 0, param: null });
  try {
    const response = await call("v1/exports", { method: "POST", json: { format, pages: known, filename } });
    return await response.blob();
  } catch (error) {
    // To try again, as elsewhere, would be in vain: what the page has of them is all there is.
    if (error instanceof Problem && ["job_expired", "job_not_found"].includes(error.code)) throw new Problem({ ...error.trouble, code: "results_gone" });
    throw error;
  }
}

/** Hand a file to the person. @param {Blob} blob @param {string} name */
export function save(blob, name) {
  const url = URL.createObjectURL(blob);
  Object.assign(document.createElement("a"), { href: url, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(url), 60_000);
}
