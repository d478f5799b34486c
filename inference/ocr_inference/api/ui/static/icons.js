// @ts-check
/** Pictograms, drawn by lines of the text's colour; what they mean is said by the text beside them. */
import { html } from "./html.js";

/** Lines of 24 by 24 units. */
const PATHS = {
  document: "M6 3h8l4 4v14H6z M14 3v4h4 M9 12h6 M9 16h6",
  ocr: "M4 8V5a1 1 0 0 1 1-1h3 M16 4h3a1 1 0 0 1 1 1v3 M20 16v3a1 1 0 0 1-1 1h-3 M8 20H5a1 1 0 0 1-1-1v-3 M8 9h8 M12 9v7",
  free: "M5 6h14 M5 10h14 M5 14h10 M5 18h7",
  figure: "M4 20h16 M7 20v-7 M12 20V6 M17 20v-10",
  describe: "M4 5h16v14H4z M4 16l5-5 4 4 3-3 4 4 M15.5 9h.01",
  find: "M10.5 4a6.5 6.5 0 1 1 0 13 6.5 6.5 0 0 1 0-13z M15.5 15.5 20 20",
  freeform: "M4 5h16v11H10l-4 4v-4H4z M8 9h8 M8 12h5",
  upload: "M12 16V5 M7.5 9 12 4.5 16.5 9 M5 19h14",
  folder: "M4 6h6l2 2h8v11H4z",
  up: "M12 19V6 M6.5 11 12 5.5 17.5 11",
  down: "M12 5v13 M6.5 13 12 18.5 17.5 13",
  trash: "M5 7h14 M10 4h4 M7 7l1 13h8l1-13 M10.5 11v5 M13.5 11v5",
  done: "M5 12.5 10 17 19 7",
  failed: "M12 7v6 M12 17h.01 M12 3.5a8.5 8.5 0 1 1 0 17 8.5 8.5 0 0 1 0-17z",
  waiting: "M12 7v5l3 2 M12 3.5a8.5 8.5 0 1 1 0 17 8.5 8.5 0 0 1 0-17z",
  again: "M19 12a7 7 0 1 1-2-5 M17 3v4h-4",
  stop: "M6 6l12 12 M18 6 6 18",
  key: "M8 10a4 4 0 1 1 0 8 4 4 0 0 1 0-8z M11 11l8-8 M16 6l3 3",
};

/** @param {{name: keyof typeof PATHS}} props */
export function Icon({ name }) {
  return html`<svg class="glyph" viewBox="0 0 24 24" aria-hidden="true"><path d=${PATHS[name]} /></svg>`;
}
