// @ts-check
/** Draws memory over time as paths of SVG: steps, since a value counts until the next one. Pure. */

/**
 * @typedef {object} Frame
 * @property {number} from Seconds, at the left.
 * @property {number} to At the right.
 * @property {number} top Bytes at the top; what is more is drawn there.
 * @property {number} width In the units of the path.
 * @property {number} height
 */

/**
 * A line, with a break where nothing is known; empty where nothing is.
 * @param {readonly import("./memory.js").Sample[]} samples @param {"own" | "whole" | "host"} part @param {Frame} frame
 */
export function line(samples, part, frame) {
  return runs(samples, part, frame)
    .map((points) => points.map(([x, y], index) => (index === 0 ? `M${x} ${y}` : `H${x}V${y}`)).join(""))
    .join("");
}

/** The same with what is below it. @param {readonly import("./memory.js").Sample[]} samples @param {"own" | "whole" | "host"} part @param {Frame} frame */
export function area(samples, part, frame) {
  return runs(samples, part, frame)
    .map((points) => {
      const steps = points.map(([x, y]) => `H${x}V${y}`).join("");
      return `M${points[0][0]} ${frame.height}${steps}V${frame.height}Z`;
    })
    .join("");
}

/**
 * Points of each stretch in which the part is known.
 * @param {readonly import("./memory.js").Sample[]} samples @param {"own" | "whole" | "host"} part @param {Frame} frame
 * @returns {[number, number][][]}
 */
function runs(samples, part, frame) {
  /** @type {[number, number][][]} */
  const found = [];
  /** @type {[number, number][] | null} */
  let points = null;
  samples.forEach((sample, index) => {
    const value = sample[part];
    if (value === null) {
      points = null;
      return;
    }
    const end = samples[index + 1]?.at ?? frame.to;
    if (end < frame.from || sample.at > frame.to) return;
    if (points === null) found.push((points = []));
    const y = down(value, frame);
    points.push([across(sample.at, frame), y], [across(end, frame), y]);
  });
  return found;
}

/** @param {number} at @param {Frame} frame */
function across(at, { from, to, width }) {
  return tenth((width * (Math.min(Math.max(at, from), to) - from)) / (to - from));
}

/** @param {number} bytes @param {Frame} frame */
function down(bytes, { top, height }) {
  return tenth(top > 0 ? height * (1 - Math.min(bytes, top) / top) : height);
}

/** @param {number} number */
const tenth = (number) => Math.round(10 * number) / 10;
