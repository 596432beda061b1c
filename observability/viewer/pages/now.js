// What is wrong now: the last minutes of each service, requests that do not end, the newest errors in groups, and what is
// slower than it was.

import { UNNAMED, chip, count, duration, element, load, time } from "./common.js";
import { percent, short, sparkline } from "./chart.js";
import { inFlight } from "./in-flight.js";
import { live, replace } from "./live.js";
import { condition } from "./query.js";

const WINDOW_US = 15 * 60e6;
const EVERY_MS = 5000;
const GROUPS = 6;

const traces = (...conditions) => `/traces?${new URLSearchParams({ q: conditions.join(" ") })}`;

/** A number with its course over the last minutes. */
function trend(text, values, className) {
  return element("td", "trend", element("span", className, text), sparkline(values, { className }));
}

/** A service's name that leads to its page. */
function serviceLink(name) {
  const link = element("a", "chip", name);
  link.style.setProperty("--colour", chip(name).style.getPropertyValue("--colour"));
  link.href = `/services?${new URLSearchParams({ service: name })}`;
  return link;
}

function drawServices({ services, seconds }) {
  const heads = ["Service", "Requests/s", "Errors", "p95"].map((name) => Object.assign(element("th", "", name), { scope: "col" }));
  const lines = services.map(({ name, calls, errors, p95, course }) =>
    element("tr", "", element("td", "", serviceLink(name)),
      trend(short(calls / seconds), course.map((step) => step.calls / step.seconds), ""),
      trend(percent(errors, calls), course.map((step) => (step.calls ? step.errors / step.calls : 0)), errors ? "error" : "calm"),
      trend(p95 == null ? "–" : duration(p95), course.map((step) => step.p95), "")));
  return element("table", "trends", element("thead", "", element("tr", "", ...heads)), element("tbody", "", ...lines));
}

function drawErrors({ groups }) {
  if (!groups.length) return [element("li", "none muted", "No errors.")];
  return groups.slice(0, GROUPS).map((group) => {
    // By the conventions a type of digits is an HTTP status.
    const type = /^[0-9]{3}$/.test(group.type) ? `HTTP ${group.type}` : group.type;
    const link = element("a", "shape", group.message || type || "error");
    link.href = `/trace/${group.traceID}?span=${group.spanID}`;
    link.title = `${group.message || type}: the newest trace with it`;
    const all = element("a", "muted", `${short(group.count)}×`);
    all.href = traces(condition("service", group.service), condition("operation", group.operation), "error",
      ...(group.type ? [condition("error.type", group.type)] : []));
    all.title = "All traces with it";
    return element("li", "", element("span", "times", all),
      element("div", "", link, element("div", "muted", chip(group.service), " ", group.operation || UNNAMED, type && group.message ? ` · ${type}` : "", " · ", time(group.last))));
  });
}

function drawSlower({ slower }) {
  return slower.slice(0, GROUPS).map(({ service, operation, before, now: after, traceID }) => {
    const link = element("a", "", operation || UNNAMED);
    link.href = traceID ? `/trace/${traceID}` : traces(condition("service", service), condition("operation", operation));
    return element("li", "", element("span", "times", `${short(after / before)}×`),
      element("div", "", link, element("div", "muted", chip(service), ` p95 ${duration(after)}, before ${duration(before)}`)));
  });
}

/** Show it in `holder` whenever `shown` is set. */
export function now(holder) {
  let polls = null;
  const services = element("div");
  const unfinished = element("div");
  const errors = element("ul", "plain");
  const errorsTitle = element("h2");
  const slower = element("ul", "plain");
  const slowerTitle = element("h2", "", "Slower than before");
  const requests = inFlight(unfinished);
  holder.append(element("div", "panel", services, unfinished), element("div", "panel", errorsTitle, errors, slowerTitle, slower));
  holder.className = "now";

  let measured = false;
  const appear = () => {
    holder.hidden = !measured && unfinished.hidden;
  };

  async function watch(signal) {
    await requests.refresh(signal);
    appear();
  }

  async function refresh(signal) {
    const end = Date.now() * 1000;
    const query = new URLSearchParams({ start: String(end - WINDOW_US), end: String(end) });
    const [statistics, failures] = await Promise.all([load(`/api/statistics?${query}`, { signal }), load(`/api/errors?${query}`, { signal })]);
    measured = statistics.services.length > 0;
    appear();
    replace(services, element("h2", "", `Last 15 minutes: ${count(statistics.services.length, "service")}`), drawServices(statistics));
    replace(errorsTitle, `Newest errors${failures.complete ? "" : `, of the newest ${count(failures.traces, "trace")} that have any`}`);
    if (!errors.matches(":hover")) replace(errors, ...drawErrors(failures));
    slowerTitle.hidden = !statistics.slower.length;
    replace(slower, ...drawSlower(statistics));
  }

  return {
    set shown(value) {
      if (!value) holder.hidden = true;
      if (polls) for (const poll of polls) poll.paused = !value;
      else if (value) polls = [live(refresh, EVERY_MS), live(watch)];
    },
  };
}
