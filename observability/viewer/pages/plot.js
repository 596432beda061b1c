// Charts over time: lines, and histograms as heat maps; exemplars are dots that lead to their traces.

import { hint, shortTime, svg, timeTicks } from "./chart.js";
import { measured } from "./units.js";

const HEIGHT = 280;
const [LEFT, RIGHT, TOP, BOTTOM] = [64, 12, 10, 22];
const COLUMNS = 90;

/** Round numbers from 0 (or below) up to a highest one, about so many. */
function ticks(low, high, about) {
  const rough = (high - low) / about || 1;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = power * [1, 2, 5, 10].find((one) => one * power >= rough);
  const found = [];
  for (let tick = Math.ceil(low / step) * step; tick <= high + step / 1e6; tick += step) found.push(Number(tick.toPrecision(12)));
  return found;
}

function frame(start, end, width, label) {
  const chart = svg("svg", { class: "plot", viewBox: `0 0 ${width} ${HEIGHT}`, width, height: HEIGHT, role: "group", "aria-label": label });
  const x = (us) => LEFT + ((us - start) / (end - start)) * (width - LEFT - RIGHT);
  for (const tick of timeTicks(start, end, Math.floor(width / 110)))
    chart.append(svg("text", { class: "mark", x: x(tick), y: HEIGHT - 5, "text-anchor": "middle" }, shortTime(tick, end - start)));
  return { chart, x };
}

function exemplarDots(exemplars, x, y, unit) {
  return exemplars.filter(({ traceID, value }) => traceID && value != null).map(({ time, value, traceID, spanID }) => {
    const told = `${measured(value, unit)} at ${shortTime(time, 0)}; open its trace`;
    const dot = svg("a", { href: `/trace/${traceID}${spanID ? `?span=${spanID}` : ""}`, class: "exemplar", "aria-label": told }, hint(told));
    dot.append(svg("circle", { cx: x(time), cy: y(value), r: 3.5 }));
    return dot;
  });
}

/**
 * @param {{name: string, points: [number, number | null][]}[]} lines in the order of their classes, `line-0` and so on.
 * @param {{start: number, end: number, width: number, unit: string, suffix: string, exemplars: object[]}} options
 * @returns {SVGElement}
 */
export function linePlot(lines, { start, end, width, unit, suffix = "", exemplars = [] }) {
  const { chart, x } = frame(start, end, width, `${lines.length} lines over the time`);
  const all = [...lines.flatMap(({ points }) => points.map(([, value]) => value)), ...exemplars.map(({ value }) => value)].filter((value) => value != null);
  const low = Math.min(0, ...all);
  const high = Math.max(...all, low) || 1;
  const y = (value) => TOP + (1 - (value - low) / (high - low)) * (HEIGHT - TOP - BOTTOM);
  for (const tick of ticks(low, high, 5))
    chart.append(svg("line", { class: "grid", x1: LEFT, x2: width - RIGHT, y1: y(tick), y2: y(tick) }),
      svg("text", { class: "mark", x: LEFT - 8, y: y(tick) + 4, "text-anchor": "end" }, `${measured(tick, unit)}${suffix}`));
  lines.forEach(({ name, points }, index) => {
    let path = "";
    let open = false;
    for (const [time, value] of points) {
      if (value != null) path += `${open ? "L" : "M"}${x(time).toFixed(1)},${y(value).toFixed(1)}`;
      open = value != null;
    }
    const seen = points.filter(([, value]) => value != null);
    if (!seen.length) return;
    chart.append(svg("g", { class: `series line-${index}` }, hint(name), svg("path", { d: path }),
      svg("circle", { cx: x(seen.at(-1)[0]), cy: y(seen.at(-1)[1]), r: 2.5 })));
  });
  chart.append(...exemplarDots(exemplars, x, y, unit));
  return chart;
}

/**
 * @param {{time: number, bounds: number[], counts: number[]}[]} distributions
 * @param {{start: number, end: number, width: number, unit: string, exemplars: object[]}} options
 * @returns {SVGElement}
 */
export function heatPlot(distributions, { start, end, width, unit, exemplars = [] }) {
  const { chart, x } = frame(start, end, width, "Measurements by size over the time");
  // Buckets by their upper bound; those above all bounds by infinity.
  const columns = new Map();
  const columnOf = (time) => Math.min(COLUMNS - 1, Math.floor(((time - start) / (end - start)) * COLUMNS));
  const limits = new Set();
  for (const { time, bounds, counts } of distributions) {
    const column = columnOf(time);
    if (column < 0) continue;
    counts.forEach((number, index) => {
      if (number <= 0) return;
      const limit = bounds[index] ?? Infinity;
      limits.add(limit).add(index ? bounds[index - 1] : Math.min(0, limit));
      const cells = columns.get(column) ?? new Map();
      cells.set(limit, { number: (cells.get(limit)?.number ?? 0) + number, from: index ? bounds[index - 1] : Math.min(0, limit) });
      columns.set(column, cells);
    });
  }
  const steps = [...limits].sort((a, b) => a - b);
  const place = (value) => {
    const above = steps.findIndex((limit) => value <= limit);
    if (above <= 0) return above ? steps.length - 1 : 0;
    const [low, high] = [steps[above - 1], steps[above]];
    return above - 1 + (Number.isFinite(high) ? (value - low) / (high - low) : 0.5);
  };
  const y = (value) => TOP + (1 - place(value) / Math.max(1, steps.length - 1)) * (HEIGHT - TOP - BOTTOM);
  const most = Math.max(1, ...[...columns.values()].flatMap((cells) => [...cells.values()].map(({ number }) => number)));
  const wide = (width - LEFT - RIGHT) / COLUMNS;
  for (const [column, cells] of columns)
    for (const [limit, { number, from }] of cells) {
      const told = `${measured(from, unit)} to ${Number.isFinite(limit) ? measured(limit, unit) : "more"}: ${number}`;
      chart.append(svg("rect", { class: "cell", x: LEFT + column * wide, width: Math.max(1, wide - 0.5), y: y(limit), height: Math.max(1, y(from) - y(limit) - 0.5),
        "fill-opacity": (0.15 + 0.85 * Math.sqrt(number / most)).toFixed(2) }, hint(told)));
    }
  let last = Infinity;
  for (const limit of steps) {
    const at = y(limit);
    if (last - at < 15) continue;
    last = at;
    chart.append(svg("text", { class: "mark", x: LEFT - 8, y: at + 4, "text-anchor": "end" }, Number.isFinite(limit) ? measured(limit, unit) : "∞"));
  }
  // Of each cell the longest one: more would hide what they stand on.
  const kept = new Map();
  for (const one of exemplars) {
    const key = `${columnOf(one.time)} ${steps.findIndex((limit) => one.value <= limit)}`;
    if (!(kept.get(key)?.value >= one.value)) kept.set(key, one);
  }
  chart.append(...exemplarDots([...kept.values()], x, y, unit));
  return chart;
}
