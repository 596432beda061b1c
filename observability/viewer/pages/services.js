// The services: who calls whom, rate, errors and durations; and one service with its operations.

import { UNNAMED, chip, count, duration, element, load } from "./common.js";
import { percent, short, sparkline } from "./chart.js";
import { histogram } from "./histogram.js";
import { lastSelect, lastTime } from "./last.js";
import { live, replace } from "./live.js";
import { serviceMap } from "./map.js";
import { condition } from "./querybox.js";

const EVERY_MS = 5000;
const MARGIN = 16;

const $ = (selector) => document.querySelector(selector);
const wanted = () => Object.fromEntries(new URL(location).searchParams);

/** This page with other parameters; an empty one is left out. */
function here(changes) {
  const query = Object.entries({ ...wanted(), ...changes }).filter(([, value]) => value);
  return query.length ? `/services?${new URLSearchParams(query)}` : "/services";
}

const linkTo = (service) => here({ service, operation: "" });
const tracesOf = (...conditions) => `/traces?${new URLSearchParams({ q: conditions.join(" ") })}`;

function anchor(className, href, ...children) {
  return Object.assign(element("a", className, ...children), { href });
}

function serviceChip(name) {
  const node = anchor("chip", linkTo(name), name);
  node.style.setProperty("--colour", chip(name).style.getPropertyValue("--colour"));
  return node;
}

const COLUMNS = ["Calls/s", "Errors", "p50", "p95", "p99", "Calls over time"];

/** A table of rates, errors and durations; `first` draws the first cell of each line. */
function figures(table, title, lines, seconds, first) {
  const heads = [title, ...COLUMNS].map((name) => Object.assign(element("th", "", name), { scope: "col" }));
  const time = (ns) => element("td", "figure", ns == null ? "–" : duration(ns));
  replace(table, element("thead", "", element("tr", "", ...heads)), element("tbody", "", ...lines.map((line) =>
    element("tr", "", first(line), element("td", "figure", short(line.calls / seconds)),
      element("td", line.errors ? "figure error" : "figure", percent(line.errors, line.calls)),
      time(line.p50), time(line.p95), time(line.p99),
      element("td", "course", sparkline(line.course.map((step) => step.calls / step.seconds)))))));
}

function drawOverview({ services, seconds }, { calls }) {
  replace($("#map"), serviceMap(services, calls, seconds, linkTo));
  figures($("#services"), "Service", services, seconds, ({ name }) => element("td", "", serviceChip(name)));
}

function drawService({ services, operations, seconds }, { calls }, service, chosen) {
  figures($("#operations"), "Operation", operations, seconds, ({ name, kind }) => {
    const link = anchor("", here({ operation: name, kind }), name || UNNAMED);
    if (name === chosen?.name && kind === chosen?.kind) link.setAttribute("aria-current", "true");
    return element("td", "operation", link, " ", element("span", "muted", kind));
  });
  const holder = $("#histogram");
  holder.hidden = !chosen?.durations.length;
  if (!holder.hidden) {
    const { p50, p95, p99 } = chosen;
    replace(
      holder,
      element("h2", "", "How long ", element("b", "", chosen.name || UNNAMED), ` takes: ${count(chosen.calls, "call")}. A bar opens a trace that took so long; `,
        anchor("", tracesOf(condition("service", service), condition("operation", chosen.name)), "all its traces")),
      histogram(chosen.durations, { p50, p95, p99 }, Math.max(280, holder.clientWidth - 2 * MARGIN)),
    );
  }
  const near = calls.filter(({ caller, callee }) => caller === service || callee === service);
  const names = new Set([service, ...near.flatMap(({ caller, callee }) => [caller, callee])]);
  replace($("#dependencies"), serviceMap(services.filter(({ name }) => names.has(name)), near, seconds, linkTo));
}

async function refresh(signal) {
  const url = location.search;
  const { service, operation, kind } = wanted();
  const time = lastTime();
  const [statistics, map] = await Promise.all([
    load(`/api/statistics?${new URLSearchParams({ ...time, ...(service && { service }) })}`, { signal }),
    load(`/api/map?${new URLSearchParams(time)}`, { signal }),
  ]);
  if (url !== location.search) return;
  const { services, operations } = statistics;
  document.title = `${service ?? "Services"} · Clearspan`;
  $("#title").replaceChildren(service ?? "Services");
  $("#links").replaceChildren(...(service
    ? [anchor("", here({ service: "", operation: "", kind: "" }), "All services"), " · ", anchor("", tracesOf(condition("service", service)), "Traces"), " · ",
      anchor("", `/logs?${new URLSearchParams({ q: condition("service", service) })}`, "Logs")]
    : [count(services.length, "service")]));
  const isEmpty = service ? !operations.length : !services.length;
  $("#empty").hidden = !isEmpty;
  $("#overview").hidden = Boolean(service) || isEmpty;
  $("#service").hidden = !service || isEmpty;
  if (isEmpty) return;
  if (!service) drawOverview(statistics, map);
  else {
    const incoming = operations.find((one) => one.kind === "server" || one.kind === "consumer");
    const chosen = operations.find((one) => one.name === operation && (!kind || one.kind === kind)) ?? incoming ?? operations[0];
    drawService(statistics, map, service, chosen);
  }
}

lastSelect($("#last"), () => poll.now());
const poll = live(refresh, EVERY_MS);
window.addEventListener("popstate", () => poll.now());
// Links to this page are followed without leaving it.
$("main").addEventListener("click", (event) => {
  const link = event.target.closest("a");
  const href = link?.getAttribute("href");
  if (!href?.startsWith("/services") || event.ctrlKey || event.metaKey || event.shiftKey) return;
  event.preventDefault();
  document.activeElement.blur();
  history.pushState(null, "", href);
  poll.now();
});
