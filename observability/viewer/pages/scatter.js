// Traces as dots, their duration over the time: a click opens one, a drag along narrows the time, and one across draws a
// box around some.

import { colour, duration } from "./common.js";
import { hint, roundDuration, shortTime, svg, timeTicks } from "./chart.js";

const HEIGHT = 132;
const LEFT = 56;
const RIGHT = 12;
const TOP = 8;
const BOTTOM = 20;
const EDGE = 28; // nearer to it a mark has no room
const CLICK_PX = 4; // less than this is no drag
const BOX_PX = 24; // lower than this it is one along the time

/** Powers of ten around the durations, in nanoseconds. */
function decades(traces) {
  const logs = traces.map((trace) => Math.log10(Math.max(1, trace.durationNano)));
  const low = Math.floor(Math.min(...logs));
  const high = Math.ceil(Math.max(...logs));
  return [low, Math.max(high, low + 1)];
}

/**
 * Draw in `holder` and tell what the reader does.
 *
 * @param {HTMLElement} holder
 * @param {{narrow: (start: number, end: number) => void, box: (box: object) => void, point: (traceID: string | null) => void}} told
 *   `narrow` of a stretch of time in microseconds, `box` also of how long, in nanoseconds, traces took that began `from`
 *   one time `to` another; `point` of the trace under the pointer.
 */
export function scatter(holder, { narrow, box, point }) {
  let drawn = { start: 0, end: 1, width: 1, low: 0, high: 1 };
  let drag = null;
  let latest = [[], undefined, undefined, undefined];
  const chart = svg("svg", { class: "scatter", role: "img" });
  const brush = svg("rect", { class: "brush", y: TOP, height: HEIGHT - TOP - BOTTOM, width: 0 });
  holder.append(chart);

  const x = (us) => LEFT + ((us - drawn.start) / (drawn.end - drawn.start)) * (drawn.width - LEFT - RIGHT);
  const timeAt = (px) => drawn.start + ((px - LEFT) / (drawn.width - LEFT - RIGHT)) * (drawn.end - drawn.start);

  const y = (ns) => TOP + (1 - (Math.log10(Math.max(1, ns)) - drawn.low) / (drawn.high - drawn.low)) * (HEIGHT - TOP - BOTTOM);
  const durationAt = (py) => 10 ** (drawn.low + (1 - (py - TOP) / (HEIGHT - TOP - BOTTOM)) * (drawn.high - drawn.low));

  /** A box that was drawn, as far as it is in sight. */
  function outline({ from, to, shortest, longest }) {
    const [left, right] = [from, to].map((us) => Math.min(drawn.width - RIGHT, Math.max(LEFT, x(us))));
    const [top, bottom] = [longest, shortest].map((ns) => Math.min(HEIGHT - BOTTOM, Math.max(TOP, y(ns))));
    return svg("rect", { class: "box", x: left - 4, y: top, width: right - left + 8, height: bottom - top });
  }

  function draw(traces, from, to, marked) {
    latest = [traces, from, to, marked];
    if (drag) return; // it must not move under the pointer
    holder.hidden = !traces.length;
    if (holder.hidden) return;
    const starts = traces.map((trace) => trace.startTime);
    const start = from ?? Math.min(...starts);
    const end = Math.max(to ?? Math.max(...starts), start + 1000);
    const padding = (end - start) * 0.01;
    const [low, high] = decades(traces);
    drawn = { start: start - padding, end: end + padding, width: Math.max(240, holder.clientWidth), low, high };
    chart.setAttribute("viewBox", `0 0 ${drawn.width} ${HEIGHT}`);
    chart.setAttribute("height", HEIGHT);
    chart.setAttribute("aria-label", `Durations of ${traces.length} traces over the time, ${duration(10 ** low)} to ${duration(10 ** high)}`);
    const marks = [];
    for (let power = low; power <= high; power += 1)
      if (high - low <= 4 || power % 2 === 0)
        marks.push(
          svg("line", { class: "grid", x1: LEFT, x2: drawn.width - RIGHT, y1: y(10 ** power), y2: y(10 ** power) }),
          svg("text", { class: "mark", x: LEFT - 8, y: y(10 ** power) + 4, "text-anchor": "end" }, roundDuration(10 ** power)),
        );
    for (const tick of timeTicks(drawn.start, drawn.end, Math.floor(drawn.width / 110)).filter((one) => x(one) < drawn.width - EDGE))
      marks.push(svg("text", { class: "mark", x: x(tick), y: HEIGHT - 4, "text-anchor": "middle" }, shortTime(tick, end - start)));
    // Those with errors come last, so that they are on top.
    const dots = [...traces].sort((a, b) => Boolean(a.errors) - Boolean(b.errors)).map((trace) => {
      const [cx, cy] = [x(trace.startTime), y(trace.durationNano)];
      const dot = trace.errors
        ? svg("path", { class: "dot failed", d: `M${cx - 4},${cy - 4}l8,8m0,-8l-8,8` })
        : svg("circle", { class: "dot", cx, cy, r: 3.5, fill: colour(trace.service) });
      dot.dataset.trace = trace.traceID;
      dot.append(hint(`${trace.service} ${trace.name}, ${duration(trace.durationNano)}${trace.errors ? ", with errors" : ""}`));
      return dot;
    });
    chart.replaceChildren(...marks, ...(marked ? [outline(marked)] : []), ...dots, brush);
    brush.setAttribute("width", 0);
  }

  const traceOf = (event) => event.target.closest?.("[data-trace]")?.dataset.trace ?? null;
  const at = (event) => Math.min(drawn.width - RIGHT, Math.max(LEFT, event.clientX - chart.getBoundingClientRect().left));

  const height = (event) => Math.min(HEIGHT - BOTTOM, Math.max(TOP, event.clientY - chart.getBoundingClientRect().top));
  const across = ({ from, to }) => Math.abs(to[1] - from[1]) >= BOX_PX && Math.abs(to[0] - from[0]) >= CLICK_PX;

  chart.addEventListener("pointerdown", (event) => {
    if (event.button !== 0) return;
    const place = [at(event), height(event)];
    drag = { from: place, to: place, trace: traceOf(event) };
    chart.setPointerCapture(event.pointerId);
    event.preventDefault();
  });
  chart.addEventListener("pointermove", (event) => {
    if (!drag) {
      point(traceOf(event));
      return;
    }
    drag.to = [at(event), height(event)];
    const [[x1, y1], [x2, y2]] = [drag.from, drag.to];
    const [top, bottom] = across(drag) ? [Math.min(y1, y2), Math.max(y1, y2)] : [TOP, HEIGHT - BOTTOM];
    for (const [name, value] of Object.entries({ x: Math.min(x1, x2), width: Math.abs(x2 - x1), y: top, height: bottom - top }))
      brush.setAttribute(name, value);
  });
  chart.addEventListener("pointerleave", () => point(null));
  chart.addEventListener("pointercancel", () => {
    drag = null;
    draw(...latest);
  });
  chart.addEventListener("pointerup", (event) => {
    if (!drag) return;
    const ended = drag;
    drag = null;
    const [left, right] = [ended.from[0], ended.to[0]].sort((a, b) => a - b);
    const [top, bottom] = [ended.from[1], ended.to[1]].sort((a, b) => a - b);
    const [from, to] = [Math.floor(timeAt(left)), Math.ceil(timeAt(right))];
    if (across(ended)) {
      // What reaches an edge is open there.
      const shortest = bottom >= HEIGHT - BOTTOM ? 0 : Math.round(durationAt(bottom));
      box({ from, to, shortest, longest: top <= TOP ? Infinity : Math.round(durationAt(top)) });
    } else if (right - left >= CLICK_PX) narrow(from, to);
    else if (ended.trace && (event.ctrlKey || event.metaKey)) window.open(`/trace/${ended.trace}`, "_blank", "noopener");
    else if (ended.trace) location.assign(`/trace/${ended.trace}`);
    draw(...latest);
  });
  new ResizeObserver(() => draw(...latest)).observe(holder);
  return draw;
}
