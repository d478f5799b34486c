// @ts-check
/** What components are written with: `html`, and the hooks and signals of the vendored libraries. */
import { Fragment, h, render } from "./vendor/preact.mjs";
import * as hooks from "./vendor/preact-hooks.mjs";
import htm from "./vendor/htm.mjs";
import * as signals from "./vendor/signals.mjs";

/** @template T @typedef {{value: T, peek(): T}} Signal Value that components draw anew for, where they read it. */
/** @template T @typedef {{readonly value: T, peek(): T}} Computed */

/**
 * Tagged template that makes elements: html`<p class=${name}>${text}</p>`. Texts are texts, never markup.
 * @type {(strings: TemplateStringsArray, ...values: any[]) => any}
 */
export const html = htm.bind(h);
export { Fragment, render };

export const signal = /** @type {<T>(value: T) => Signal<T>} */ (signals.signal);
export const computed = /** @type {<T>(compute: () => T) => Computed<T>} */ (signals.computed);
export const effect = /** @type {(act: () => void | (() => void)) => () => void} */ (signals.effect);
export const batch = /** @type {<T>(act: () => T) => T} */ (signals.batch);
export const untracked = /** @type {<T>(act: () => T) => T} */ (signals.untracked);

export const useState = /** @type {<T>(first: T | (() => T)) => [T, (next: T | ((before: T) => T)) => void]} */ (hooks.useState);
export const useRef = /** @type {<T>(first: T) => {current: T}} */ (hooks.useRef);
export const useMemo = /** @type {<T>(make: () => T, of: unknown[]) => T} */ (hooks.useMemo);
export const useEffect = /** @type {(act: () => void | (() => void), of?: unknown[]) => void} */ (hooks.useEffect);
export const useLayoutEffect = /** @type {(act: () => void | (() => void), of?: unknown[]) => void} */ (hooks.useLayoutEffect);
export const useId = /** @type {() => string} */ (hooks.useId);
export const useSignal = /** @type {<T>(value: T) => Signal<T>} */ (signals.useSignal);
export const useComputed = /** @type {<T>(compute: () => T) => Computed<T>} */ (signals.useComputed);
export const useSignalEffect = /** @type {(act: () => void | (() => void)) => void} */ (signals.useSignalEffect);
