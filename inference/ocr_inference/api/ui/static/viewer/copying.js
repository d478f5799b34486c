// @ts-check
/** Put text into the clipboard. */

/**
 * @param {string} text
 * @returns {Promise<boolean>} whether it is there
 */
export async function copy(text) {
  // Without TLS, a browser has that only for its own machine.
  if (navigator.clipboard) {
    try {
      await navigator.clipboard.writeText(text);
      return true;
    } catch {
      // Forbidden here: the old way may do.
    }
  }
  const area = Object.assign(document.createElement("textarea"), { value: text, readOnly: true, className: "unseen" });
  const focused = /** @type {HTMLElement | null} */ (document.activeElement);
  document.body.append(area);
  area.select();
  const done = document.execCommand("copy");
  area.remove();
  focused?.focus();
  return done;
}
