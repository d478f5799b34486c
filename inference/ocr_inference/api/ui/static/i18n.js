// @ts-check
/** Texts of the page in the person's language. */
import { signal } from "./html.js";

/** Languages that there are, by their own names. */
export const LANGUAGES = /** @type {const} */ ({ en: "English", "zh-CN": "简体中文", "zh-TW": "繁體中文", ja: "日本語" });
const STORED = "language";

/** Language of the texts. @type {import("./html.js").Signal<keyof typeof LANGUAGES>} */
export const language = signal("en");
/** @type {import("./html.js").Signal<Record<string, string>>} */
const texts = signal({});

/**
 * Text by its key, such as `t("list.pages", {n: 3})`: "{n}" in it is replaced, and "{n|one page|{n} pages}" is one of
 * the two, by whether n is 1.
 * @param {string} key @param {Record<string, string | number>} [values]
 */
export function t(key, values = {}) {
  const text = texts.value[key] ?? key;
  return text
    .replace(/\{(\w+)\|([^|]*)\|((?:[^{}]|\{\w+\})*)\}/g, (_, name, one, many) => (Number(values[name]) === 1 ? one : many))
    .replace(/\{(\w+)\}/g, (whole, name) => (name in values ? shownValue(values[name]) : whole));
}

/** @param {string | number} value */
function shownValue(value) {
  return typeof value === "number" ? value.toLocaleString(language.value) : value;
}

/** Whether there is a text of that key. @param {string} key */
export const has = (key) => key in texts.value;

/** What went wrong, in the person's language where its code is known, else in the server's words. @param {import("./store.js").Trouble} trouble */
export function trouble(trouble) {
  const known = [`error.${trouble.code}`, `error.status.${trouble.status}`].find(has);
  return known && known.startsWith("error.status.") ? `${t(known)} (${trouble.message})` : known ? t(known) : trouble.message;
}

/** The language to begin with: the one that was chosen here, else the browser's. @param {readonly string[]} wanted @param {string | null} stored */
export function choose(wanted, stored) {
  if (stored !== null && stored in LANGUAGES) return /** @type {keyof typeof LANGUAGES} */ (stored);
  for (const each of wanted) {
    const tag = each.toLowerCase();
    if (/^zh\b/.test(tag)) return /\b(hant|tw|hk|mo)\b/.test(tag) ? "zh-TW" : "zh-CN";
    if (/^ja\b/.test(tag)) return "ja";
    if (/^en\b/.test(tag)) return "en";
  }
  return "en";
}

/** Take a language, and remember it where the person chose it. @param {keyof typeof LANGUAGES} wanted @param {boolean} [remember] */
export async function speak(wanted, remember = false) {
  const response = await fetch(new URL(`locales/${wanted}.json`, import.meta.url));
  if (!response.ok) throw new Error(`no texts in ${wanted}: ${response.status}`);
  texts.value = await response.json();
  language.value = wanted;
  document.documentElement.lang = wanted;
  document.title = t("title");
  if (remember) store(wanted);
}

/** @param {string} value */
function store(value) {
  try {
    localStorage.setItem(STORED, value);
  } catch {
    // A browser that keeps nothing for this page: the language is chosen anew next time.
  }
}

/** What was chosen here before; null where nothing was. */
export function stored() {
  try {
    return localStorage.getItem(STORED);
  } catch {
    return null;
  }
}
