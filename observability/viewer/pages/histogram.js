// The durations of an operation as bars, each of which leads to a trace that took so long.

import { duration } from "./common.js";
import { hint, roundDuration, svg } from "./chart.js";

const HEIGHT = 128;
const BOTTOM = 20;
const TOP = 18;

/**
 * @param {{from: number, to: number, calls: number, traceID: string}[]} buckets in nanoseconds.
 * @param {Record<string, number | null>} quantiles by their names.
 * @param {number} width in pixels.
 * @returns {SVGElement}
 */
export function histogram(buckets, quantiles, width) {
  const at = (ns) => Math.log2(Math.max(1, ns));
  const low = at(buckets[0].from);
  const high = Math.max(at(buckets.at(-1).to), low + 2);
  const x = (ns) => 8 + ((at(ns) - low) / (high - low)) * (width - 16);
  const most = Math.max(...buckets.map((bucket) => bucket.calls));
  const floor = HEIGHT - BOTTOM;
  const chart = svg("svg", { class: "histogram", viewBox: `0 0 ${width} ${HEIGHT}`, width, height: HEIGHT, role: "group", "aria-label": "Durations; each bar leads to a trace" });
  for (const { from, to, calls, traceID } of buckets) {
    const tall = Math.max(2, (calls / most) * (floor - TOP));
    const told = `${duration(from)} to ${duration(to)}: ${calls} ${calls === 1 ? "call" : "calls"}; open one`;
    const across = { x: x(from) + 0.5, width: Math.max(2, x(to) - x(from) - 1) };
    chart.append(svg("a", { href: `/trace/${traceID}`, "aria-label": told }, hint(told),
      svg("rect", { class: "catch", ...across, y: TOP, height: floor - TOP }),
      svg("rect", { class: "column", ...across, y: floor - tall, height: tall })));
  }
  let last = -Infinity;
  for (let power = Math.floor(low / Math.log2(10)); power <= high / Math.log2(10); power += 1)
    for (const ns of [1, 2, 5].map((one) => one * 10 ** power)) {
      const across = x(ns);
      if (across < 8 || across > width - 24 || across - last < 56) continue;
      last = across;
      chart.append(svg("text", { class: "mark", x: across, y: HEIGHT - 5, "text-anchor": "middle" }, roundDuration(ns)));
    }
  let before = -Infinity;
  for (const [name, ns] of Object.entries(quantiles)) {
    if (ns == null) continue;
    const across = x(Math.max(ns, buckets[0].from));
    chart.append(svg("line", { class: "quantile", x1: across, x2: across, y1: TOP - 4, y2: floor }));
    if (across - before > 28) {
      chart.append(svg("text", { class: "mark", x: across, y: TOP - 7, "text-anchor": across > width - 24 ? "end" : "middle" }, name));
      before = across;
    }
  }
  chart.append(svg("line", { class: "grid", x1: 8, x2: width - 8, y1: floor, y2: floor }));
  return chart;
}
