// @ts-check
/** What a file is, by its first bytes: names and types that a system gives files say little. */

/** Bytes of a file's beginning that are looked at: a PDF may stand behind something else. */
export const HEAD_BYTES = 1040;

/** @typedef {"picture" | "pdf" | "tiff" | "other"} Kind "picture": the browser shows it itself. */

/** @param {Uint8Array} head @returns {Kind | null} Null for what the server doesn't read. */
export function kindOf(head) {
  const text = Array.from(head, (byte) => String.fromCharCode(byte)).join("");
  if (text.startsWith("\x89PNG\r\n\x1a\n") || text.startsWith("\xff\xd8\xff") || /^GIF8[79]a/.test(text)) return "picture";
  if (/^RIFF[^]{4}WEBP/.test(text) || /^BM[^]{12}/.test(text)) return "picture";
  if (/^[^]{4}ftyp(avif|avis)/.test(text)) return "picture";
  if (/^(II[*+]\0|MM\0[*+])/.test(text)) return "tiff";
  if (text.startsWith("\0\0\0\x0cjP  \r\n\x87\n") || text.startsWith("\xff\x4f\xff\x51")) return "other";
  return text.includes("%PDF-") ? "pdf" : null;
}
