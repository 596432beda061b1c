import { UNNAMED, chip, count, duration, element, load, statusOf, time } from "./common.js";

const POLL_MS = 1000;
const table = document.querySelector("#traces");
const body = table.tBodies[0];
const select = document.querySelector("#service");
const fresh = document.querySelector("#fresh");
let latest = [];
let shown = new Set();

const wanted = () => new URL(location).searchParams.get("service") ?? "";
select.addEventListener("change", () => {
  const url = new URL(location);
  if (select.value) url.searchParams.set("service", select.value);
  else url.searchParams.delete("service");
  history.pushState(null, "", url);
  refresh(true).catch(offline);
});
window.addEventListener("popstate", () => refresh(true).catch(offline));
fresh.addEventListener("click", () => {
  show(latest);
  window.scrollTo(0, 0);
});

function row(trace, longest) {
  const link = element("a", "", trace.name || UNNAMED);
  link.href = `/trace/${trace.traceID}`;
  const request = element("td", "request", link, " ", statusOf(trace.status));
  if (trace.errors) request.append(" ", element("span", "error", count(trace.errors, "error")));
  const chips = trace.services.map(({ name, spans }) => chip(name, `${name} ${spans}`));
  const bar = element("div", trace.errors ? "bar failed" : "bar");
  bar.style.setProperty("width", `${Math.max(0.5, (trace.durationNano / longest) * 100)}%`);
  return element("tr", "", element("td", "", time(trace.startTime)), request, element("td", "chips", ...chips),
    element("td", "wide", element("span", "number", duration(trace.durationNano)), bar));
}

function show(traces) {
  latest = traces;
  shown = new Set(traces.map((trace) => trace.traceID));
  const longest = Math.max(1, ...traces.map((trace) => trace.durationNano));
  body.replaceChildren(...traces.map((trace) => row(trace, longest)));
  fresh.hidden = true;
}

function offer(services, service) {
  const names = ["", ...new Set([...services, ...(service ? [service] : [])])];
  // An open list must not change under the pointer, so it is only made anew when it differs.
  if (names.join("\n") !== [...select.options].map((option) => option.value).join("\n"))
    select.replaceChildren(...names.map((name) => {
      const option = element("option", "", name || "all");
      option.value = name;
      return option;
    }));
  select.value = service;
}

async function refresh(now) {
  const service = wanted();
  const query = new URLSearchParams({ limit: "50", ...(service && { service }) });
  const { traces, services, otlp } = await load(`/api/recent?${query}`);
  if (service !== wanted()) return;
  document.body.classList.remove("offline");
  offer(services, service);
  document.querySelector("#otlp").textContent = otlp;
  const news = traces.filter((trace) => !shown.has(trace.traceID)).length;
  // Rows stay where they are while they are read: at the top of the page new ones come by themselves, else on demand.
  if (now || shown.size === 0 || (window.scrollY === 0 && !body.matches(":hover"))) show(traces);
  else if (news) {
    latest = traces;
    fresh.textContent = `${news} new`;
    fresh.hidden = false;
  }
  table.hidden = shown.size === 0;
  document.querySelector("#empty").hidden = shown.size !== 0 || Boolean(service);
  document.querySelector("#none").hidden = shown.size !== 0 || !service;
}

function offline() {
  document.body.classList.add("offline");
}

async function poll() {
  if (!document.hidden) await refresh(false).catch(offline);
  setTimeout(poll, POLL_MS);
}

poll();
