// Traces as dots, their duration over the time: a click opens one, a drag narrows the time.

import { colour, duration } from "./common.js";
import { hint, roundDuration, shortTime, svg, timeTicks } from "./chart.js";

const HEIGHT = 132;
const LEFT = 56;
const RIGHT = 12;
const TOP = 8;
const BOTTOM = 20;
const CLICK_PX = 4; // less than this is no drag

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
 * @param {{narrow: (start: number, end: number) => void, point: (traceID: string | null) => void}} told
 *   `narrow` of a stretch of time in microseconds, `point` of the trace under the pointer.
 */
export function scatter(holder, { narrow, point }) {
  let drawn = { start: 0, end: 1, width: 1 };
  let drag = null;
  let latest = [[], undefined, undefined];
  const chart = svg("svg", { class: "scatter", role: "img" });
  const brush = svg("rect", { class: "brush", y: TOP, height: HEIGHT - TOP - BOTTOM, width: 0 });
  holder.append(chart);

  const x = (us) => LEFT + ((us - drawn.start) / (drawn.end - drawn.start)) * (drawn.width - LEFT - RIGHT);
  const timeAt = (px) => drawn.start + ((px - LEFT) / (drawn.width - LEFT - RIGHT)) * (drawn.end - drawn.start);

  function draw(traces, from, to) {
    latest = [traces, from, to];
    if (drag) return; // it must not move under the pointer
    holder.hidden = !traces.length;
    if (holder.hidden) return;
    const starts = traces.map((trace) => trace.startTime);
    const start = from ?? Math.min(...starts);
    const end = Math.max(to ?? Math.max(...starts), start + 1000);
    const padding = (end - start) * 0.01;
    drawn = { start: start - padding, end: end + padding, width: Math.max(240, holder.clientWidth) };
    const [low, high] = decades(traces);
    const y = (ns) => TOP + (1 - (Math.log10(Math.max(1, ns)) - low) / (high - low)) * (HEIGHT - TOP - BOTTOM);
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
    for (const tick of timeTicks(drawn.start, drawn.end, Math.floor(drawn.width / 110)))
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
    chart.replaceChildren(...marks, ...dots, brush);
    brush.setAttribute("width", 0);
  }

  const traceOf = (event) => event.target.closest?.("[data-trace]")?.dataset.trace ?? null;
  const at = (event) => Math.min(drawn.width - RIGHT, Math.max(LEFT, event.clientX - chart.getBoundingClientRect().left));

  chart.addEventListener("pointerdown", (event) => {
    if (event.button !== 0) return;
    drag = { from: at(event), to: at(event), trace: traceOf(event) };
    chart.setPointerCapture(event.pointerId);
    event.preventDefault();
  });
  chart.addEventListener("pointermove", (event) => {
    if (!drag) {
      point(traceOf(event));
      return;
    }
    drag.to = at(event);
    brush.setAttribute("x", Math.min(drag.from, drag.to));
    brush.setAttribute("width", Math.abs(drag.to - drag.from));
  });
  chart.addEventListener("pointerleave", () => point(null));
  chart.addEventListener("pointercancel", () => {
    drag = null;
    draw(...latest);
  });
  chart.addEventListener("pointerup", (event) => {
    if (!drag) return;
    const { from, to, trace } = drag;
    drag = null;
    if (Math.abs(to - from) >= CLICK_PX) narrow(Math.floor(timeAt(Math.min(from, to))), Math.ceil(timeAt(Math.max(from, to))));
    else if (trace && (event.ctrlKey || event.metaKey)) window.open(`/trace/${trace}`, "_blank", "noopener");
    else if (trace) location.assign(`/trace/${trace}`);
    draw(...latest);
  });
  new ResizeObserver(() => draw(...latest)).observe(holder);
  return draw;
}
