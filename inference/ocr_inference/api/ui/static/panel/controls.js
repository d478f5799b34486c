// @ts-check
/**
 * Controls of the server. They are sent without a token first; where the server says that it needs one, the page asks
 * for it, and sends the same again. The token stays in memory.
 */
import { signal } from "../html.js";
import { Problem, callJson } from "../api.js";
import { trouble } from "../i18n.js";

/**
 * @typedef {object} Control
 * @property {"gpu/load" | "gpu/offload" | "gpu/release" | "gpu/timeout"} path
 * @property {Record<string, string | number | boolean>} fields
 * @property {string} what It in the person's language, such as "Offload pp-ocr".
 * @property {(answer: any) => void} [done]
 */

/** The control that waits for a token; `wrong`: one was sent, and isn't it. @type {import("../html.js").Signal<{control: Control, wrong: boolean} | null>} */
export const question = signal(/** @type {{control: Control, wrong: boolean} | null} */ (null));
/** Controls that are being done, as `key` names them. @type {import("../html.js").Signal<ReadonlySet<string>>} */
export const running = signal(new Set());

/** @param {Control["path"]} path @param {Control["fields"]} fields */
export const key = (path, fields) => `${path} ${fields.model ?? ""}`;

/** Have it done; what goes wrong is told to the person. @param {typeof import("../store.js")} store @param {Control} control */
export async function order(store, control) {
  const mine = key(control.path, control.fields);
  running.value = new Set(running.value).add(mine);
  try {
    const said = await callJson(control.path, { method: "POST", json: control.fields, admin: true });
    control.done?.(said);
  } catch (error) {
    if (!(error instanceof Problem)) throw error;
    if (error.code === "missing_token" || error.code === "wrong_token") {
      store.adminToken.value = "";
      question.value = { control, wrong: error.code === "wrong_token" };
    } else {
      store.say(`${control.what}: ${trouble(error.trouble)}`, "error");
    }
  } finally {
    running.value = new Set([...running.value].filter((each) => each !== mine));
  }
}

/** Send what waits, with this token. @param {typeof import("../store.js")} store @param {string} token */
export function answer(store, token) {
  const asked = question.value;
  store.adminToken.value = token.trim();
  question.value = null;
  if (asked) void order(store, asked.control);
}
