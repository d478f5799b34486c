// @ts-check
/** Memory over time, as the states told it. Pure: times are arguments, in seconds on a clock that only rises. */

/** How far back it is kept. */
export const WINDOW_SECONDS = 600;
/** What is shown at least, so that the first seconds aren't drawn as if they were all there is. */
export const LEAST_SECONDS = 60;
/** Samples kept at most: a state says only what changed, so that so many in ten minutes are no server of ours. */
export const MOST_SAMPLES = 2_000;

/**
 * @typedef {object} Sample Bytes from a moment on, until the next sample. Null is not known.
 * @property {number} at
 * @property {number | null} own What the models take of the GPU; null without a GPU.
 * @property {number | null} whole What everything on the GPU takes.
 * @property {number | null} total The GPU's.
 * @property {number | null} host What the models take of the machine's memory; null while there is no connection.
 */

/** @param {any} state Of `GET /v1/state`. @param {number} at @returns {Sample} */
export function sampleOf(state, at) {
  const { device, models } = state;
  const sum = (/** @type {string} */ field) => models.reduce((/** @type {number} */ all, /** @type {any} */ model) => all + model[field], 0);
  if (device.kind === "cpu") {
    // There the machine's memory is the device: a model that is ready has its weights and what it reads with.
    return { at, own: null, whole: null, total: null, host: sum("memory_bytes") + sum("host_bytes") };
  }
  const own = device.memory_used_bytes ?? sum("memory_bytes");
  return {
    at,
    own,
    // Measured in coarse steps, and later than our own models are counted.
    whole: device.gpu ? Math.max(device.gpu.memory_used_bytes, own) : null,
    total: device.memory_total_bytes ?? device.gpu?.memory_total_bytes ?? null,
    host: sum("host_bytes"),
  };
}

/** The sample that says that nothing is known. @param {number} at @returns {Sample} */
export const gap = (at) => ({ at, own: null, whole: null, total: null, host: null });

/**
 * The samples with a newer one: equal ones are one, and what is older than the window goes, but for the one that says
 * how it was when the window begins.
 * @param {readonly Sample[]} samples @param {Sample} sample @returns {readonly Sample[]}
 */
export function added(samples, sample) {
  const last = samples.at(-1);
  const grown = last && same(last, sample) ? samples : [...samples, sample];
  const begin = sample.at - WINDOW_SECONDS;
  const first = grown.findLastIndex((each) => each.at <= begin);
  return grown.slice(Math.max(0, first, grown.length - MOST_SAMPLES));
}

/** @param {Sample} a @param {Sample} b */
function same(a, b) {
  return a.own === b.own && a.whole === b.whole && a.total === b.total && a.host === b.host;
}

/** Seconds that are shown: what is known, within bounds. @param {readonly Sample[]} samples @param {number} to */
export function span(samples, to) {
  const known = samples.length === 0 ? 0 : to - samples[0].at;
  return Math.min(Math.max(known, LEAST_SECONDS), WINDOW_SECONDS);
}

/** The most of a part in the window; null where it isn't known. @param {readonly Sample[]} samples @param {"own" | "whole" | "host"} part */
export function most(samples, part) {
  return samples.reduce((/** @type {number | null} */ found, sample) => {
    const value = sample[part];
    return value === null ? found : Math.max(found ?? 0, value);
  }, null);
}
