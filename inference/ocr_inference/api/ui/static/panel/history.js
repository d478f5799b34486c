// @ts-check
/** What the panel remembers while the page is open: memory over time, and how long models have been idle. */
import { effect, signal, untracked } from "../html.js";
import { callJson } from "../api.js";
import { next } from "./countdown.js";
import { added, gap, sampleOf } from "./memory.js";

const TICK_MS = 500;

/** Seconds on a clock that only rises. */
const clock = () => performance.now() / 1000;

/** The same, told anew twice a second. */
export const now = signal(clock());
/** @type {import("../html.js").Signal<readonly import("./memory.js").Sample[]>} */
export const samples = signal(/** @type {readonly import("./memory.js").Sample[]} */ ([]));
/** By the model's name. @type {import("../html.js").Signal<ReadonlyMap<string, import("./countdown.js").Anchor>>} */
export const anchors = signal(new Map());
/** When the connection ended; null while there is one. @type {import("../html.js").Signal<number | null>} */
export const lostAt = signal(/** @type {number | null} */ (null));

/** Remember from now on; returns what ends it. @param {typeof import("../store.js")} store */
export function remember(store) {
  const timer = setInterval(() => (now.value = clock()), TICK_MS);
  const stop = effect(() => {
    const state = store.server.value;
    const connected = store.connected.value;
    untracked(() => note(connected ? state : null));
  });
  const look = () => {
    // Where the machine slept, its clock may have stood still.
    if (document.visibilityState === "visible" && store.server.value !== null) void ask(store.server.value, true);
  };
  document.addEventListener("visibilitychange", look);
  return () => {
    clearInterval(timer);
    document.removeEventListener("visibilitychange", look);
    stop();
  };
}

/** @param {any} state Null without a connection. */
function note(state) {
  now.value = clock();
  if (state === null) {
    lostAt.value ??= now.value;
    if (samples.value.length > 0) samples.value = added(samples.value, gap(now.value));
    anchors.value = new Map();
    return;
  }
  lostAt.value = null;
  samples.value = added(samples.value, sampleOf(state, now.value));
  void ask(state, false);
}

/** Ask how long models have been idle that leave by time, where that isn't known. @param {any} state @param {boolean} anew */
async function ask(state, anew) {
  for (const model of state.models) {
    const since = model.idle_since;
    if (next(model).after === Infinity || (!anew && anchors.value.get(model.name)?.since === since)) continue;
    try {
      const { idle_time: idle } = await callJson(`gpu/status?model=${encodeURIComponent(model.name)}`);
      anchors.value = new Map(anchors.value).set(model.name, { since, idle, at: clock() });
    } catch {
      // Without it, the card says after which time the model leaves, and not when.
    }
  }
}
