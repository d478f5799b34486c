// @ts-check
/** Every HTTP call of the page. Addresses are relative, so that it works under any path of a proxy. */
import { adminToken, apiKey, keyRefused } from "./store.js";

/** Where the server's calls begin. */
const BASE = new URL("../", import.meta.url);

/** @param {string} path Without a slash at its beginning. */
export const url = (path) => new URL(path, BASE);

const AGAIN_SECONDS = 2;
/** Tries of a call that the server refuses for the moment, other than for being busy, which is waited for. */
const TRIES = 5;

/** Answer that isn't what was asked for; also none at all. */
export class Problem extends Error {
  /** @param {import("./store.js").Trouble & {retryAfter?: number | null}} trouble */
  constructor({ code, message, status, param, retryAfter = null }) {
    super(message);
    this.code = code;
    this.status = status;
    this.param = param;
    /** Seconds after which the server wants to be asked again; null where it doesn't say. */
    this.retryAfter = retryAfter;
  }
  /** @returns {import("./store.js").Trouble} */
  get trouble() {
    return { code: this.code, message: this.message, status: this.status, param: this.param };
  }
}

/** @param {unknown} error @returns {import("./store.js").Trouble} */
export function troubleOf(error) {
  return error instanceof Problem ? error.trouble : { code: "unexpected", message: String(error), status: 0, param: null };
}

/** Seconds after which a refused call is made again; null where that would be in vain. @param {Problem} problem @param {number} tries */
export function again(problem, tries) {
  if (problem.status === 429) return problem.retryAfter ?? AGAIN_SECONDS;
  if ((problem.status === 503 || problem.status === 0) && tries < TRIES) return problem.retryAfter ?? AGAIN_SECONDS * tries;
  return null;
}

/**
 * Call the server; throws `Problem`, and `AbortError` where the signal says so.
 * @param {string} path
 * @param {{method?: string, form?: FormData, json?: unknown, admin?: boolean, keepalive?: boolean, signal?: AbortSignal}} [options]
 *   `admin`: with the admin token instead of the API key. `keepalive`: sent even while the page is closed.
 * @returns {Promise<Response>}
 */
export async function call(path, { method = "GET", form, json, admin = false, keepalive = false, signal } = {}) {
  /** @type {Record<string, string>} */
  const headers = {};
  const token = admin ? adminToken.value : apiKey.value;
  if (token) headers.Authorization = `Bearer ${token}`;
  if (json !== undefined) headers["Content-Type"] = "application/json";
  const body = form ?? (json === undefined ? undefined : JSON.stringify(json));
  let response;
  try {
    response = await fetch(url(path), { method, headers, body, signal, keepalive, cache: "no-store", credentials: "same-origin" });
  } catch (error) {
    if (error instanceof DOMException && error.name === "AbortError") throw error;
    throw new Problem({ code: "offline", message: String(error), status: 0, param: null });
  }
  if (!response.ok) {
    if (!admin && (response.status === 401 || response.status === 403)) keyRefused.value = true;
    throw await problem(response);
  }
  return response;
}

/** The same, and its JSON. @param {string} path @param {Parameters<typeof call>[1]} [options] @returns {Promise<any>} */
export async function callJson(path, options) {
  const response = await call(path, options);
  try {
    return await response.json();
  } catch (error) {
    if (error instanceof DOMException && error.name === "AbortError") throw error;
    throw new Problem({ code: "unreadable_answer", message: String(error), status: response.status, param: null });
  }
}

/** @param {Response} response @returns {Promise<Problem>} */
async function problem(response) {
  const seconds = Number(response.headers.get("Retry-After"));
  /** @type {any} */
  let body = null;
  try {
    body = await response.json();
  } catch {
    // A proxy's page, or nothing: the status has to do.
  }
  // Of two shapes, by path: {error: {message, code, param}} and {error: message, code, param}.
  const error = typeof body?.error === "object" && body.error !== null ? body.error : { ...body, message: body?.error };
  return new Problem({
    code: typeof error.code === "string" ? error.code : "unexpected_answer",
    message: typeof error.message === "string" ? error.message : `${response.status} ${response.statusText}`,
    status: response.status,
    param: typeof error.param === "string" ? error.param : null,
    retryAfter: Number.isFinite(seconds) && seconds > 0 ? seconds : null,
  });
}

/**
 * Events of a stream, as they come, until it ends; with the key in a header, which `EventSource` can't send.
 * @param {string} path
 * @param {Parameters<typeof call>[1] & {heard?: () => void}} [options] `heard` is called for whatever comes, comments too.
 * @returns {AsyncGenerator<{event: string, data: any}>}
 */
export async function* events(path, options) {
  const response = await call(path, options);
  if (!response.body) return;
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  try {
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return;
      options?.heard?.();
      const blocks = (rest + value).split("\n\n");
      rest = blocks.pop() ?? "";
      for (const block of blocks) {
        const lines = block.split("\n");
        const data = lines.filter((line) => line.startsWith("data: ")).map((line) => line.slice(6)).join("\n");
        const event = lines.find((line) => line.startsWith("event: "))?.slice(7) ?? "message";
        if (data) yield { event, data: JSON.parse(data) };
      }
    }
  } catch (error) {
    if (error instanceof DOMException && error.name === "AbortError") throw error;
    throw new Problem({ code: "offline", message: String(error), status: 0, param: null });
  } finally {
    reader.cancel().catch(() => {});
  }
}
