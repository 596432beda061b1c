// Small charts in SVG. What they show is also said in words beside them, so most are hidden from screen readers.

import { duration } from "./common.js";

const NAMESPACE = "http://www.w3.org/2000/svg";

export function svg(tag, attributes, ...children) {
  const node = document.createElementNS(NAMESPACE, tag);
  for (const [name, value] of Object.entries(attributes)) if (value != null) node.setAttribute(name, value);
  node.append(...children);
  return node;
}

/** A title that browsers show on hover. */
export function hint(text) {
  return svg("title", {}, text);
}

/** Values as a line over a faint area; `null` leaves a gap. `ceiling` is what fills the height. */
export function sparkline(values, { className = "", ceiling = Math.max(...values, 0), width = 120, height = 22 } = {}) {
  const step = width / Math.max(1, values.length - 1);
  const y = (value) => height - 1 - (ceiling > 0 ? (value / ceiling) * (height - 3) : 0);
  const runs = [];
  let open = false;
  values.forEach((value, index) => {
    if (value == null) open = false;
    else {
      if (!open) runs.push([]);
      open = true;
      runs.at(-1).push([index * step, y(value)]);
    }
  });
  const chart = svg("svg", { class: `spark ${className}`, viewBox: `0 0 ${width} ${height}`, preserveAspectRatio: "none", "aria-hidden": "true" });
  for (const run of runs) {
    if (run.length === 1) run.push([run[0][0] + Math.min(step, 3), run[0][1]]);
    const line = run.map(([x, at]) => `${x.toFixed(1)},${at.toFixed(1)}`).join("L");
    chart.append(
      svg("path", { class: "area", d: `M${run[0][0].toFixed(1)},${height}L${line}L${run.at(-1)[0].toFixed(1)},${height}Z` }),
      svg("path", { class: "line", d: `M${line}` }),
    );
  }
  return chart;
}

const STEPS_S = [0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 21600, 43200, 86400, 604800];

/** Times, in microseconds, at which an axis has a mark: round ones in the reader's zone, at most `most`. */
export function timeTicks(start, end, most) {
  const step = 1e6 * (STEPS_S.find((one) => (end - start) / (one * 1e6) <= most) ?? (end - start) / most / 1e6);
  const zone = new Date(start / 1000).getTimezoneOffset() * 60e6;
  const ticks = [];
  for (let tick = Math.ceil((start - zone) / step) * step + zone; tick <= end; tick += step) ticks.push(tick);
  return ticks;
}

/** A time as short as its neighbours allow, `span` microseconds long in all. */
export function shortTime(us, span) {
  const date = new Date(us / 1000);
  if (span > 2 * 86400e6) return date.toLocaleDateString([], { month: "short", day: "numeric" });
  const seconds = span < 10 * 60e6 ? { second: "2-digit" } : {};
  const fraction = span < 5e6 ? { fractionalSecondDigits: 3 } : {};
  return date.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit", hour12: false, ...seconds, ...fraction });
}

/** A duration of an axis, without the digits that say nothing. */
export function roundDuration(ns) {
  return duration(ns).replace(/\.0+(?= )/, "");
}

/** A number with three significant digits at most. */
export function short(number) {
  if (number !== 0 && Math.abs(number) < 1000) return String(Number(number.toPrecision(3)));
  return new Intl.NumberFormat("en", { notation: "compact", maximumSignificantDigits: 3 }).format(number);
}

/** A share as a percentage that is 0 only if it is. */
export function percent(part, whole) {
  const share = whole ? (100 * part) / whole : 0;
  return share > 0 && share < 0.1 ? "<0.1 %" : `${Number(share.toPrecision(share < 10 ? 2 : 3))} %`;
}
