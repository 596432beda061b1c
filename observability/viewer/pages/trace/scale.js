// How times become places on a line: one to one, or with the long times squeezed in which nothing is done.
import { between } from "./attempts.js";

const SQUEEZED = 0.04; // of the time in which something is done, for each that is squeezed
const WORTH = 0.9; // of the length
const MOSTLY = 0.5; // of a trace without work, from which on it is squeezed without being asked

/** Whether so much of a trace is idle that the rest could hardly be seen. */
export const mostlyIdle = (length, idle) => sum(idle) > length * MOSTLY;

/** Whether it makes a difference that can be seen. */
export const canSqueeze = (length, idle) => scaleOf(length, idle, true).length < length * WORTH;

/**
 * @param {number} length Of the trace, in nanoseconds.
 * @param {[number, number][]} idle The times in which nothing is done, in order.
 * @param {boolean} squeeze
 * @returns {{gaps: [number, number][], length: number, place: (time: number) => number, time: (place: number) => number}}
 *     The times that are squeezed, the length of the line, and the way from times to places and back.
 */
export function scaleOf(length, idle, squeeze) {
  const short = SQUEEZED * (length - sum(idle));
  const gaps = squeeze && short > 0 ? idle.filter(([from, to]) => to - from > short) : [];
  const knots = [[0, 0]];
  for (const [from, to] of gaps) {
    const [at, place] = knots.at(-1);
    knots.push([from, place + from - at], [to, place + from - at + short]);
  }
  const [at, place] = knots.at(-1);
  knots.push([length, place + length - at]);
  return { gaps, length: knots.at(-1)[1], place: (time) => mapped(knots, time, 0, 1), time: (there) => mapped(knots, there, 1, 0) };
}

const sum = (intervals) => intervals.reduce((total, [from, to]) => total + to - from, 0);

/** A value between two knots, or one to one beyond the outer ones. */
function mapped(knots, value, from, to) {
  let [low, high] = [0, knots.length - 1];
  if (value <= knots[low][from]) return knots[low][to] + value - knots[low][from];
  if (value >= knots[high][from]) return knots[high][to] + value - knots[high][from];
  while (high - low > 1) {
    const middle = (low + high) >> 1;
    if (knots[middle][from] <= value) low = middle;
    else high = middle;
  }
  const width = knots[high][from] - knots[low][from];
  return knots[low][to] + (width ? (value - knots[low][from]) / width : 0) * (knots[high][to] - knots[low][to]);
}

const UNITS = [[1e9, "s"], [1e6, "ms"], [1e3, "µs"], [1, "ns"]];

/** About so many round times between two, in nanoseconds, with their labels; none where time is squeezed. */
export function ticks(scale, [from, to], most) {
  const raw = Math.max(1, (scale.place(to) - scale.place(from)) / Math.max(1, most));
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = Math.max(1, [1, 2, 5, 10].find((one) => one * power >= raw - 1e-9) * power);
  const found = [];
  for (const [start, end] of between(scale.gaps, from, to))
    for (let number = Math.ceil(start / step); number * step <= end; number += 1) found.push(number * step);
  const [size, unit] = UNITS.find(([one]) => Math.max(Math.abs(from), Math.abs(to)) >= one) ?? UNITS.at(-1);
  const digits = Math.max(0, Math.ceil(-Math.log10(step / size) - 1e-9));
  return found.map((at) => ({ at, label: at === 0 ? "0" : `${(at / size).toFixed(digits)} ${unit}` }));
}
