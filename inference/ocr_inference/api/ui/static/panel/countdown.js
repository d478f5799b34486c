// @ts-check
/** Decides when an idle model leaves, by the rules of the server's idle timers. Pure: times are arguments, in seconds. */

export const NEVER = -1;
/** The longest time that the server takes: one year. */
export const MOST_SECONDS = 31_536_000;

/**
 * @typedef {object} Idle What becomes of a model that nobody asks for anything.
 * @property {"none" | "busy" | "preloaded" | "never" | "offload" | "unload"} kind "none": it is on its way, or holds
 *   nothing, or the server doesn't say.
 * @property {number} after Idle seconds until then; infinite where it stays.
 */

/** @param {any} model Of `GET /v1/state`. @returns {Idle} */
export function next(model) {
  const held = model.state === "ready" || model.state === "offloaded";
  if (!held || !model.idle) return { kind: "none", after: Infinity };
  if (model.in_flight > 0 || model.waiting > 0 || !model.idle_since) return { kind: "busy", after: Infinity };
  if (model.preloaded) return { kind: "preloaded", after: Infinity };
  const unload = limit(model.idle.release_after_seconds);
  // With its process a model leaves the device, too.
  const offload = model.state === "ready" ? Math.min(limit(model.idle.offload_after_seconds), limit(model.idle.exit_after_seconds)) : Infinity;
  if (unload === Infinity && offload === Infinity) return { kind: "never", after: Infinity };
  return unload <= offload ? { kind: "unload", after: unload } : { kind: "offload", after: offload };
}

/**
 * Models that leave the device before their time until offload, with their process, and when.
 * @param {readonly any[]} models @returns {{name: string, after: number}[]}
 */
export function sooner(models) {
  return models
    .filter(({ idle, preloaded }) => idle && !preloaded && limit(idle.exit_after_seconds) < limit(idle.offload_after_seconds))
    .map(({ name, idle }) => ({ name, after: idle.exit_after_seconds }));
}

/** @param {number} seconds */
const limit = (seconds) => (seconds === NEVER ? Infinity : seconds);

/**
 * @typedef {object} Anchor What the server said of a model's idle time, and when.
 * @property {string} since `idle_since` of the state that it is about.
 * @property {number} idle Seconds.
 * @property {number} at Seconds on the page's own clock, which only rises.
 */

/**
 * Whole seconds until then; null where it isn't known. The server's count is what it begins from, never the wall clock
 * of this machine, which may be another one.
 * @param {Idle} idle @param {string} since @param {Anchor | undefined} anchor @param {number} now As `Anchor.at`.
 */
export function remaining(idle, since, anchor, now) {
  if (idle.after === Infinity || anchor === undefined || anchor.since !== since) return null;
  return Math.max(0, Math.ceil(idle.after - anchor.idle - Math.max(0, now - anchor.at)));
}

/**
 * Seconds that a person typed; null where the server wouldn't take them. Between -1 and 0 nothing has a meaning.
 * @param {string} typed
 */
export function parseSeconds(typed) {
  const text = typed.trim();
  if (!/^[0-9]+([.,][0-9]+)?$/.test(text)) return null;
  const seconds = Number(text.replace(",", "."));
  return seconds <= MOST_SECONDS ? seconds : null;
}
