// @ts-check
/** Formulae as MathML, by a library that is loaded when the first one is there. */

/** Formulae of a page that are drawn; further ones stay as they are written. */
const MOST = 1000;
/** What defines other marks: no formula on a page does, and a few characters of it can keep a browser busy for long. */
const DEFINING = /\\(?:[gex]?def|let|futurelet|(?:re)?newcommand|providecommand|global|long)(?![a-zA-Z])/;
const OPTIONS = { throwOnError: true, trust: false, maxExpand: 200, maxSize: [20, 200] };

/** Milliseconds of work before the browser has its turn. */
const TURN = 12;

/** @type {Promise<any> | null} */
let loading = null;

function library() {
  loading ??= new Promise((resolve, reject) => {
    const sheet = Object.assign(document.createElement("link"), { rel: "stylesheet", href: vendored("temml.css") });
    const script = Object.assign(document.createElement("script"), { src: vendored("temml.js") });
    script.onload = () => resolve(/** @type {any} */ (globalThis).temml);
    script.onerror = () => {
      loading = null; // the next page tries again
      reject(new Error("temml.js"));
    };
    document.head.append(sheet, script);
  });
  return loading;
}

/** @param {string} file */
function vendored(file) {
  return new URL(`../vendor/${file}`, import.meta.url).href;
}

/**
 * Draw the formulae within an element. What can't be drawn stays as it is written.
 *
 * @param {Element | DocumentFragment} root
 */
export async function typeset(root) {
  const found = [...root.querySelectorAll("code.formula-inline, code.formula-display")].slice(0, MOST);
  if (!found.length) return;
  let temml;
  try {
    temml = await library();
  } catch {
    return;
  }
  let began = performance.now();
  for (const code of found) {
    if (performance.now() - began > TURN) {
      await new Promise((resolve) => setTimeout(resolve));
      if (!root.contains(code)) return; // another page is shown by now
      began = performance.now();
    }
    const tex = code.textContent ?? "";
    const drawn = document.createElement("span");
    try {
      if (DEFINING.test(tex)) continue;
      temml.render(tex, drawn, { ...OPTIONS, displayMode: code.className === "formula-display" });
    } catch {
      continue;
    }
    for (const { name, value } of code.attributes) drawn.setAttribute(name, value);
    drawn.title = tex;
    code.replaceWith(drawn);
  }
}
