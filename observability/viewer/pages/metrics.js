// What services measure: their instruments, and the points of one over the time.

import { count, element, load } from "./common.js";
import { lastSelect, lastTime } from "./last.js";
import { live, replace } from "./live.js";
import { heatPlot, linePlot } from "./plot.js";
import { distributions, quantile, values } from "./series.js";
import { measured, unitName } from "./units.js";

const EVERY_MS = 5000;
const MOST_LINES = 8;
const MOST_EXEMPLARS = 1000;
const QUANTILES = { p50: 0.5, p95: 0.95, p99: 0.99 };

const $ = (selector) => document.querySelector(selector);
const wanted = () => Object.fromEntries(new URL(location).searchParams);

function here(changes) {
  const query = Object.entries({ ...wanted(), ...changes }).filter(([, value]) => value);
  return `/metrics?${new URLSearchParams(query)}`;
}

function drawList(instruments, chosen) {
  const part = $("#part").value.trim().toLowerCase();
  const groups = new Map();
  for (const one of instruments.filter(({ name, service }) => `${service} ${name}`.toLowerCase().includes(part)))
    groups.set(one.service, [...(groups.get(one.service) ?? []), one]);
  replace($("#list"), ...[...groups].map(([service, members]) => element("div", "", element("h2", "", service), element("ul", "plain", ...members.map((one) => {
    const link = element("a", "", one.name);
    link.href = here({ service: one.service, name: one.name });
    link.title = one.description;
    if (one === chosen) link.setAttribute("aria-current", "true");
    return element("li", "", link);
  })))));
}

/** How series differ: only those attributes that are not the same in all. */
function names(series) {
  const keys = [...new Set(series.flatMap(({ attributes }) => Object.keys(attributes)))];
  const differing = series.length > 1 ? keys.filter((key) => new Set(series.map(({ attributes }) => String(attributes[key]))).size > 1) : keys;
  return series.map(({ attributes }) => differing.filter((key) => key in attributes).map((key) => `${key}=${attributes[key]}`).join(" ") || "all");
}

function legend(lines, rest) {
  const items = lines.map(({ name, told }, index) => element("li", "", element("span", `swatch line-${index}`), element("span", "number", told), element("span", "", name)));
  if (rest > 0) items.push(element("li", "muted", `and ${count(rest, "more line")} that ${rest === 1 ? "is" : "are"} not drawn`));
  replace($("#legend"), ...items);
}

function drawHistogram(instrument, series, options) {
  const told = series.flatMap((one) => distributions(one, instrument));
  // For the legend all series together, as far as they have the same bounds.
  const sums = new Map();
  for (const { bounds, counts } of told) {
    const key = bounds.join();
    const sum = sums.get(key) ?? { bounds, counts: counts.map(() => 0) };
    counts.forEach((number, index) => (sum.counts[index] += number));
    sums.set(key, sum);
  }
  const total = [...sums.values()].sort((a, b) => b.counts.reduce((x, y) => x + y, 0) - a.counts.reduce((x, y) => x + y, 0))[0];
  replace($("#chart"), heatPlot(told, options));
  const figures = total && Object.entries(QUANTILES).map(([name, share]) => [name, quantile(total, share)]).filter(([, value]) => value != null);
  replace($("#legend"), element("li", "muted", ...(figures?.length ? [`${count(total.counts.reduce((x, y) => x + y, 0), "measurement")}; `, figures.map(([name, value]) => `${name} ${measured(value, options.unit)}`).join(", "), ". The darker, the more; dots are exemplars and open their traces."] : ["Nothing was measured in this time."])));
}

function drawLines(instrument, series, options) {
  const isRate = instrument.type === "sum" && instrument.monotonic;
  const suffix = isRate ? "/s" : "";
  const named = names(series);
  const lines = instrument.type === "summary"
    ? series.flatMap((one, index) => [...new Set(one.points.flatMap(({ quantiles }) => quantiles.map(([share]) => share)))].map((share) => ({
      name: `${named[index]} quantile ${share}`,
      points: one.points.map(({ time, quantiles }) => [time, quantiles.find(([other]) => other === share)?.[1] ?? null]),
    })))
    : series.map((one, index) => ({ name: named[index], points: values(one, instrument) }));
  const last = ({ points }) => points.at(-1)?.[1] ?? 0;
  const shown = lines.filter(({ points }) => points.length).sort((a, b) => last(b) - last(a)).slice(0, MOST_LINES)
    .map((line) => ({ ...line, told: `${measured(last(line), instrument.unit)}${suffix}` }));
  replace($("#chart"), linePlot(shown, { ...options, suffix, exemplars: isRate ? [] : options.exemplars }));
  legend(shown, lines.length - shown.length);
}

async function refresh(signal) {
  const url = location.search;
  const { instruments, otlp } = await load("/api/instruments", { signal });
  $("#otlp").textContent = otlp;
  $("#empty").hidden = instruments.length > 0;
  $("#metrics").hidden = !instruments.length;
  if (!instruments.length) return;
  const { service, name } = wanted();
  const chosen = instruments.find((one) => one.service === service && one.name === name)
    ?? instruments.find((one) => one.name === "http.server.request.duration") ?? instruments[0];
  const time = lastTime();
  const query = new URLSearchParams({ service: chosen.service, name: chosen.name, ...time });
  const { series } = await load(`/api/points?${query}`, { signal });
  if (url !== location.search) return;
  const isFirst = list === null;
  list = () => drawList(instruments, chosen);
  list();
  if (isFirst) $("#list [aria-current]")?.scrollIntoView({ block: "nearest" });
  document.title = `${chosen.name} · Clearspan`;
  $("#name").replaceChildren(chosen.name, element("span", "muted", ` ${chosen.service}`));
  const kind = chosen.type === "sum" && chosen.monotonic ? "counter, drawn as a rate" : chosen.type.replace("_", " ");
  $("#description").textContent = [chosen.description, [kind, unitName(chosen.unit)].filter(Boolean).join(", ")].filter(Boolean).join(" · ");
  const exemplars = series.flatMap(({ points }) => points.flatMap((point) => point.exemplars))
    .filter((one) => one.time >= Number(time.start)).sort((a, b) => b.time - a.time).slice(0, MOST_EXEMPLARS);
  const options = { start: Number(time.start), end: Number(time.end), width: Math.max(300, $("#chart").clientWidth), unit: chosen.unit, exemplars };
  if (chosen.type.endsWith("histogram")) drawHistogram(chosen, series, options);
  else drawLines(chosen, series, options);
}

let list = null;
lastSelect($("#last"), () => poll.now());
const poll = live(refresh, EVERY_MS);
$("#part").addEventListener("input", () => list?.());
window.addEventListener("popstate", () => poll.now());
// Links to this page are followed without leaving it.
$("#list").addEventListener("click", (event) => {
  const link = event.target.closest("a");
  if (!link || event.ctrlKey || event.metaKey || event.shiftKey) return;
  event.preventDefault();
  history.pushState(null, "", link.href);
  poll.now();
});
