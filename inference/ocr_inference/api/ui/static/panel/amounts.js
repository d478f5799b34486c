// @ts-check
/** Amounts as a person of that language reads them. Pure. */

const UNITS = /** @type {const} */ (["B", "KiB", "MiB", "GiB", "TiB"]);

/** Bytes, such as "1.2 GiB". @param {number} bytes @param {string} language */
export function bytes(bytes, language) {
  const power = bytes < 1 ? 0 : Math.min(Math.floor(Math.log2(bytes) / 10), UNITS.length - 1);
  const value = bytes / 1024 ** power;
  const digits = power === 0 || value >= 100 ? 0 : 1;
  return `${value.toLocaleString(language, { maximumFractionDigits: digits })} ${UNITS[power]}`;
}

/** A time, such as "42 sec" or "3 min, 5 sec": its two largest units. @param {number} seconds @param {string} language */
export function duration(seconds, language) {
  const whole = Math.round(seconds);
  if (seconds < 1 && seconds > 0) return unit(seconds, "second", language);
  if (whole < 120) return unit(Number.isInteger(seconds) || whole >= 10 ? whole : seconds, "second", language);
  const [count, large, small] = whole < 7200 ? /** @type {const} */ ([60, "minute", "second"]) : whole < 172_800 ? /** @type {const} */ ([3600, "hour", "minute"]) : /** @type {const} */ ([86_400, "day", "hour"]);
  const rest = Math.floor((whole % count) / (small === "second" ? 1 : small === "minute" ? 60 : 3600));
  const first = unit(Math.floor(whole / count), large, language);
  return rest === 0 ? first : `${first} ${unit(rest, small, language)}`;
}

/** @param {number} value @param {string} unit @param {string} language */
function unit(value, unit, language) {
  return value.toLocaleString(language, { style: "unit", unit, unitDisplay: "short", maximumFractionDigits: 1 });
}
