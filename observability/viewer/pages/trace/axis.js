// Times on a line: where marks are set, and what is written at them.

const UNITS = [[1e9, "s"], [1e6, "ms"], [1e3, "µs"], [1, "ns"]];

/** At most so many round times between two, in nanoseconds, with their labels. */
export function ticks(from, to, most) {
  const raw = Math.max(1, (to - from) / Math.max(1, most));
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = Math.max(1, [1, 2, 5, 10].find((one) => one * power >= raw - 1e-9) * power);
  const found = [];
  for (let number = Math.ceil(from / step); number * step <= to; number += 1) found.push(number * step);
  const [size, unit] = UNITS.find(([one]) => Math.max(Math.abs(from), Math.abs(to)) >= one) ?? UNITS.at(-1);
  const digits = Math.max(0, Math.ceil(-Math.log10(step / size) - 1e-9));
  return found.map((at) => ({ at, label: at === 0 ? "0" : `${(at / size).toFixed(digits)} ${unit}` }));
}

/** A part of the trace that is looked at, made to lie within it and to be no shorter than a nanosecond for each pixel. */
export function clamped([from, to], length) {
  const span = Math.min(length, Math.max(to - from, Math.min(length, 100)));
  const start = Math.min(Math.max(0, from), length - span);
  return [start, start + span];
}

/** The same part, made wider or narrower by a factor around a time that stays where it is. */
export const zoomed = ([from, to], at, factor, length) => clamped([at - (at - from) * factor, at + (to - at) * factor], length);

/** A part that has a span in it with a little room around. */
export function around(span, length) {
  const room = Math.max((span.end - span.start) * 0.1, 50);
  return clamped([span.start - room, span.end + room], length);
}
