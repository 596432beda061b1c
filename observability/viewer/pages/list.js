import { chip, duration, element, extent, load, rootOf, tag, time } from "./common.js";

const POLL_MS = 1000;
const table = document.querySelector("#traces");
const body = table.tBodies[0];
const empty = document.querySelector("#empty");
const select = document.querySelector("#service");
const fresh = document.querySelector("#fresh");
let latest = [];
let shown = new Set();

select.value = "";
const wanted = () => new URL(location).searchParams.get("service") ?? "";
select.addEventListener("change", () => {
  const url = new URL(location);
  if (select.value) url.searchParams.set("service", select.value);
  else url.searchParams.delete("service");
  history.pushState(null, "", url);
  refresh(true);
});
window.addEventListener("popstate", () => refresh(true));
fresh.addEventListener("click", () => show(latest));

function row(trace, longest) {
  const root = rootOf(trace);
  const [start, length] = extent(trace);
  const failed = trace.spans.filter((span) => tag(span, "error")).length;
  const counts = new Map();
  for (const span of trace.spans) {
    const service = trace.processes[span.processID].serviceName;
    counts.set(service, (counts.get(service) ?? 0) + 1);
  }
  const link = element("a", "", root.operationName);
  link.href = `/trace/${trace.traceID}`;
  const status = tag(root, "http.response.status_code");
  const request = element("td", "request", link);
  if (status !== undefined) request.append(" ", element("span", status >= 500 ? "error" : "muted", status));
  if (failed) request.append(" ", element("span", "error", `${failed} error${failed > 1 ? "s" : ""}`));
  const chips = element("td", "", ...[...counts].map(([service, count]) => chip(service, `${service} ${count}`)));
  const bar = element("div", failed ? "bar failed" : "bar");
  bar.style.setProperty("width", `${Math.max(0.5, (length / longest) * 100)}%`);
  return element("tr", "", element("td", "", time(start)), request, chips,
    element("td", "wide", element("span", "number", duration(length)), bar));
}

function show(traces) {
  latest = traces;
  shown = new Set(traces.map((trace) => trace.traceID));
  const longest = Math.max(1, ...traces.map((trace) => extent(trace)[1]));
  body.replaceChildren(...traces.map((trace) => row(trace, longest)));
  table.hidden = traces.length === 0;
  empty.hidden = traces.length !== 0;
  fresh.hidden = true;
}

async function refresh(now) {
  const service = wanted();
  const services = await load("/api/services");
  const options = ["", ...services].map((name) => {
    const option = element("option", "", name || "all");
    option.value = name;
    return option;
  });
  if (options.length !== select.options.length) select.replaceChildren(...options);
  select.value = service;
  const query = new URLSearchParams({ limit: "50", ...(service && { service }) });
  const traces = await load(`/api/traces?${query}`);
  const news = traces.filter((trace) => !shown.has(trace.traceID)).length;
  // Rows stay where they are while they are read: at the top of the page new ones come by themselves, else on demand.
  if (now || shown.size === 0 || (window.scrollY === 0 && !table.matches(":hover"))) show(traces);
  else if (news) {
    latest = traces;
    fresh.textContent = `${news} new`;
    fresh.hidden = false;
  }
}

async function poll() {
  try {
    await refresh(false);
    document.body.classList.remove("offline");
  } catch {
    document.body.classList.add("offline");
  }
  setTimeout(poll, POLL_MS);
}

poll();
