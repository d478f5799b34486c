// @ts-check
/** The server's state, as long as the page is open: `store.server`, `store.models`, `store.connected`. */
import { batch, effect } from "./html.js";
import { callJson, events } from "./api.js";

const AGAIN_MS = 2_000;
const MOST_MS = 30_000;
/** The server says something every 10 s. A network that went away says nothing, and no error comes for minutes. */
const SILENCE_MS = 25_000;

/** Follow the server's state; after a break it is tried again, less and less often. @param {typeof import("./store.js")} store */
export async function follow(store) {
  let pause = AGAIN_MS;
  for (;;) {
    try {
      await once(store, () => (pause = AGAIN_MS));
    } catch {
      // The header says that there is no connection; what the person does meanwhile says so itself.
    }
    store.connected.value = false;
    await again(store, pause);
    pause = Math.min(2 * pause, MOST_MS);
  }
}

/** Follow it until the connection breaks, or is silent. @param {typeof import("./store.js")} store @param {() => void} came */
async function once(store, came) {
  const breaks = new AbortController();
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  let timer;
  const stop = () => breaks.abort();
  const heard = () => {
    clearTimeout(timer);
    timer = setTimeout(stop, SILENCE_MS);
  };
  // The machine's own word; a server on the same machine is found again at once.
  addEventListener("offline", stop);
  try {
    heard();
    const { data } = await callJson("v1/models", { signal: breaks.signal });
    store.models.value = data;
    for await (const { event, data } of events("v1/state?watch=true", { signal: breaks.signal, heard })) {
      if (event !== "state") continue;
      batch(() => {
        store.connected.value = true;
        store.server.value = data;
      });
      came();
    }
  } finally {
    clearTimeout(timer);
    removeEventListener("offline", stop);
  }
}

/** Wait that long, or until there is a network again, or another key. @param {typeof import("./store.js")} store @param {number} ms @returns {Promise<void>} */
function again(store, ms) {
  return new Promise((resolve) => {
    const go = () => {
      clearTimeout(timer);
      removeEventListener("online", go);
      forget();
      resolve();
    };
    const timer = setTimeout(go, ms);
    addEventListener("online", go);
    const before = store.apiKey.peek();
    const forget = effect(() => {
      if (store.apiKey.value !== before) queueMicrotask(go);
    });
  });
}
