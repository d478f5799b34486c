// @ts-check
/** Pages as a file of Markdown; where they have figures, as an archive with a folder of their pictures. */

import { effect } from "../html.js";
import { figure, loaded } from "./body.js";

/** As the server marks parts of the page that are pictures. */
const FIGURE = /!\[([a-z_]{1,40})\]\(#xywh=(\d{1,6}),(\d{1,6}),(\d{1,6}),(\d{1,6})\)/g;
const BETWEEN = "\n\n---\n\n";
/** Pictures in an archive; further ones stay as they are written. */
const MOST = 2000;
/** Milliseconds that a page's picture is waited for; without it, figures stay as they are written. */
const DRAWN_MS = 60_000;

/**
 * @param {typeof import("../store.js")} store
 * @param {import("../pictures.js").Pictures} pictures
 * @param {import("../store.js").Page[]} pages
 * @param {string} stem
 * @param {(page: import("../store.js").Page) => string | null} fault why a page has no text
 * @returns {Promise<{blob: Blob, name: string}>}
 */
export async function markdownFile(store, pictures, pages, stem, fault) {
  /** @type {Record<string, Uint8Array>} */
  const files = {};
  const texts = [];
  for (const [at, page] of pages.entries()) {
    const missing = fault(page);
    const { result } = store.shownReading(page) ?? {};
    texts.push(result ? await withFigures(store, pictures, page, result, `images/page-${at + 1}`, files) : `<!-- ${(missing ?? "").replaceAll("--", "- -")} -->`);
  }
  const text = `${texts.join(BETWEEN)}\n`;
  if (!Object.keys(files).length) return { blob: new Blob([text], { type: "text/markdown" }), name: `${stem}.md` };
  await import("../vendor/fflate.js");
  const { zipSync, strToU8 } = /** @type {any} */ (globalThis).fflate;
  // Pictures are packed already. A fixed date: the same pages make the same file.
  const archive = zipSync({ [`${stem}.md`]: strToU8(text), ...files }, { level: 0, mtime: "2000-01-01T00:00:00" });
  return { blob: new Blob([archive], { type: "application/zip" }), name: `${stem}.zip` };
}

/**
 * A page's text, whose figures are links to files, which are added.
 *
 * @param {typeof import("../store.js")} store
 * @param {import("../pictures.js").Pictures} pictures
 * @param {import("../store.js").Page} page
 * @param {import("../store.js").Result} result
 * @param {string} prefix of the files' names
 * @param {Record<string, Uint8Array>} files
 */
async function withFigures(store, pictures, page, { text, image_dims }, prefix, files) {
  const found = [...text.matchAll(FIGURE)];
  const whole = found.length && image_dims ? await pictureOf(store, pictures, page) : null;
  if (!whole) return text;
  let [made, from] = ["", 0];
  for (const [number, match] of found.entries()) {
    const [written, label, ...place] = match;
    const png = Object.keys(files).length < MOST ? await packed(figure(whole, image_dims, place.map(Number))) : null;
    if (!png) continue;
    const path = `${prefix}-${number + 1}.png`;
    files[path] = png;
    made += `${text.slice(from, match.index)}![${label}](${path})`;
    from = match.index + written.length;
  }
  return made + text.slice(from);
}

/** The whole picture of a page, drawn by the server where nobody looked at it yet; null where there is none. @param {typeof import("../store.js")} store @param {import("../pictures.js").Pictures} pictures @param {import("../store.js").Page} page */
async function pictureOf(store, pictures, page) {
  void pictures.wantPicture(page);
  const picture = await new Promise((/** @type {(url: string | null) => void} */ resolve) => {
    /** @type {() => void} */
    let stop = () => {};
    const end = (/** @type {string | null} */ url) => {
      clearTimeout(timer);
      // Not within the effect's own first run.
      queueMicrotask(() => stop());
      resolve(url);
    };
    const timer = setTimeout(() => end(null), DRAWN_MS);
    stop = effect(() => {
      const now = store.pages.value.find((each) => each.id === page.id);
      if (!now || now.picture) end(now?.picture ?? null);
    });
  });
  return picture ? loaded(picture) : null;
}

/** @param {HTMLCanvasElement | null} canvas @returns {Promise<Uint8Array | null>} */
async function packed(canvas) {
  const blob = canvas && (await new Promise((/** @type {(blob: Blob | null) => void} */ done) => canvas.toBlob(done, "image/png")));
  return blob && new Uint8Array(await blob.arrayBuffer());
}
