// @ts-check
/** Pictures of pages: small ones for the list, whole ones to look at. The server draws what the browser can't. */
import { Problem, call, callJson, troubleOf } from "./api.js";

/** Pixels of the longer side of a small picture. */
const THUMB_PIXELS = 240;
const PAGE_PIXELS = 1600;
/** Pages that are drawn at once: each is a process of the server's. */
const AT_ONCE = 2;

/**
 * @param {typeof import("./store.js")} store
 * @param {import("./uploads.js").Uploads} uploads
 */
export function createPictures(store, uploads) {
  /** Pictures that were asked for. @type {Set<string>} */
  const begun = new Set();
  /** What waits to be drawn. @type {(() => Promise<void>)[]} */
  const waiting = [];
  let drawing = 0;

  /** Find out how many pages a document has; its error is kept in it. @param {import("./store.js").Doc} doc */
  async function count(doc) {
    try {
      const { page_count: pages } = await uploads.by(doc, (id) => patiently(() => callJson(`v1/files/${id}/pages`)));
      store.countPages(doc.id, pages);
    } catch (error) {
      store.patchDocument(doc.id, { error: troubleOf(error) });
    }
  }

  /** Have a small picture made of a page that came into view. @param {import("./store.js").Page} page */
  function wantThumb(page) {
    const doc = store.documents.value.get(page.docId);
    if (!doc || page.thumb !== null) return;
    if (doc.kind === "picture") once(`${page.id} small`, () => shrink(page, doc));
    else once(`${page.id} small`, async () => keep(page, "thumb", await draw(doc, page, THUMB_PIXELS)));
  }

  /** Have the whole picture of a page drawn, before the small ones that wait. @param {import("./store.js").Page} page */
  function wantPicture(page) {
    const doc = store.documents.value.get(page.docId);
    if (!doc || page.picture !== null || doc.kind === "picture" || doc.error) return;
    once(`${page.id} whole`, async () => {
      const drawn = await draw(doc, page, PAGE_PIXELS);
      const decoded = await createImageBitmap(drawn);
      const { width: w, height: h } = decoded;
      decoded.close();
      keep(page, "picture", drawn, { w, h });
    }, true);
  }

  /**
   * Keep a picture for as long as its page is in the list: an address of one holds its bytes.
   * @param {import("./store.js").Page} page @param {"thumb" | "picture"} which @param {Blob} drawn @param {{w: number, h: number} | null} [size]
   */
  function keep(page, which, drawn, size) {
    if (store.pages.value.some((each) => each.id === page.id)) store.patchPage(page.id, { [which]: URL.createObjectURL(drawn), ...(size && { size }) });
  }

  /** @param {string} what @param {() => Promise<void>} act @param {boolean} [first] */
  function once(what, act, first = false) {
    if (begun.has(what)) return;
    begun.add(what);
    const job = () => act().catch(() => void begun.delete(what)); // drawn when it is looked at again
    if (first) waiting.unshift(job);
    else waiting.push(job);
    next();
  }

  function next() {
    while (drawing < AT_ONCE && waiting.length > 0) {
      drawing += 1;
      void /** @type {() => Promise<void>} */ (waiting.shift())().finally(() => {
        drawing -= 1;
        next();
      });
    }
  }

  /** @param {import("./store.js").Doc} doc @param {import("./store.js").Page} page @param {number} width */
  async function draw(doc, page, width) {
    if (!store.documents.value.has(doc.id)) throw new DOMException("deleted", "AbortError");
    const answer = await uploads.by(doc, (id) => patiently(() => call(`v1/files/${id}/pages/${page.index + 1}/image?width=${width}`)));
    return answer.blob();
  }

  /** @param {import("./store.js").Page} page @param {import("./store.js").Doc} doc */
  async function shrink(page, doc) {
    try {
      const whole = await createImageBitmap(doc.file);
      const scale = Math.min(1, THUMB_PIXELS / Math.max(whole.width, whole.height));
      const [w, h] = [whole.width, whole.height].map((side) => Math.max(1, Math.round(side * scale)));
      const canvas = new OffscreenCanvas(w, h);
      const context = /** @type {OffscreenCanvasRenderingContext2D} */ (canvas.getContext("2d"));
      context.imageSmoothingQuality = "high";
      context.drawImage(whole, 0, 0, w, h);
      const size = { w: whole.width, h: whole.height };
      whole.close();
      keep(page, "thumb", await canvas.convertToBlob(), size);
    } catch {
      store.patchPage(page.id, { thumb: page.picture }); // the list shows what the browser makes of it
    }
  }

  return { count, wantThumb, wantPicture };
}
/** @typedef {ReturnType<typeof createPictures>} Pictures */

/** Try again for as long as the server is busy. @template T @param {() => Promise<T>} act @returns {Promise<T>} */
async function patiently(act) {
  for (;;) {
    try {
      return await act();
    } catch (error) {
      if (!(error instanceof Problem) || error.status !== 429) throw error;
      await new Promise((resolve) => setTimeout(resolve, 1000 * (error.retryAfter ?? 1)));
    }
  }
}
