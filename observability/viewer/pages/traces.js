// The live list of traces with its query, and above it, on the page `/`, what is wrong now.

import { UNNAMED, chip, count, duration, element, load, statusOf, time } from "./common.js";
import { shortTime } from "./chart.js";
import { live, pauseButton } from "./live.js";
import { now } from "./now.js";
import { condition, narrowed, queryBox } from "./querybox.js";
import { scatter } from "./scatter.js";

const PAGE = 100;
const MOST = 1500;

const $ = (selector) => document.querySelector(selector);
const table = $("#traces");
const body = table.tBodies[0];
const fresh = $("#fresh");
const older = $("#older");

/** What the URL asks for. */
function wanted() {
  const parameters = new URL(location).searchParams;
  return { q: parameters.get("q") ?? "", start: parameters.get("start"), end: parameters.get("end") };
}

function urlOf({ q, start, end }) {
  const query = new URLSearchParams({ ...(q && { q }), ...(start && { start }), ...(end && { end }) });
  return query.size ? `/traces?${query}` : location.pathname;
}

function go(changes) {
  const url = urlOf({ ...wanted(), ...changes });
  if (url === location.pathname + location.search) poll.now();
  else {
    history.pushState(null, "", url);
    begin();
  }
}

// What has been found: by its id, and in the table. New ones wait in `known` while the reader looks at the table.
let known = new Map();
let rows = new Map();
let room = PAGE;
let oldest = null; // where the search goes on, in microseconds
let asked = "";

const newestFirst = (traces) => traces.sort((a, b) => b.startTime - a.startTime || (a.traceID < b.traceID ? 1 : -1));

function remember(traces) {
  for (const trace of traces) known.set(trace.traceID, trace);
  known = new Map(newestFirst([...known.values()]).slice(0, room).map((trace) => [trace.traceID, trace]));
}

function drawRow(trace, longest) {
  const link = element("a", "", trace.name || UNNAMED);
  link.href = `/trace/${trace.traceID}`;
  const request = element("td", "request", link, " ", statusOf(trace.status));
  if (trace.errors) request.append(" ", element("span", "error", count(trace.errors, "error")));
  const chips = trace.services.map(({ name, spans, errors }) => {
    const node = element("a", "chip", name, " ", element("small", errors ? "error" : "", errors ? `${spans} · ${errors} ✕` : spans));
    node.style.setProperty("--colour", chip(name).style.getPropertyValue("--colour"));
    node.href = urlOf({ ...wanted(), q: narrowed(wanted().q, condition("service", name)) });
    node.title = `${name}: ${count(spans, "span")}, ${count(errors, "error")}. Narrow to it`;
    return node;
  });
  const bar = element("div", trace.errors ? "bar failed" : "bar");
  bar.style.setProperty("width", `${Math.max(0.5, (trace.durationNano / longest) * 100)}%`);
  const row = element("tr", "", element("td", "when", time(trace.startTime)), request, element("td", "services", ...chips),
    element("td", "wide", element("div", "measure", element("span", "number", duration(trace.durationNano)), element("div", "extent", bar))));
  row.dataset.trace = trace.traceID;
  return row;
}

/** Show these, keeping the rows of those that have not changed. */
function show(traces) {
  const longest = Math.max(1, ...traces.map((trace) => trace.durationNano));
  const before = rows;
  rows = new Map();
  for (const trace of traces) {
    const state = JSON.stringify([trace, longest]);
    const kept = before.get(trace.traceID);
    const row = kept?.state === state ? kept.row : drawRow(trace, longest);
    if (kept && kept.row !== row) kept.row.replaceWith(row);
    rows.set(trace.traceID, { row, state });
  }
  for (const [id, { row }] of before) if (!rows.has(id)) row.remove();
  let at = body.firstChild;
  for (const { row } of rows.values()) {
    if (row === at) at = at.nextSibling;
    else body.insertBefore(row, at);
  }
}

const isBeingRead = () => rows.size > 0 && (body.getBoundingClientRect().top < 0 || body.matches(":hover") || body.contains(document.activeElement));

function draw() {
  const traces = [...known.values()];
  const { q, start, end } = wanted();
  // A row stays where it is while it is read, so what would come above it waits; what it says is kept true.
  const lowest = traces.findLastIndex((trace) => rows.has(trace.traceID));
  const waiting = new Set(traces.slice(0, lowest + 1).filter((trace) => !rows.has(trace.traceID)));
  if (isBeingRead() && waiting.size) {
    show(traces.filter((trace) => !waiting.has(trace)));
    fresh.textContent = `${waiting.size} new`;
    fresh.hidden = false;
  } else {
    show(traces);
    fresh.hidden = true;
  }
  drawScatter(traces, start && Number(start), end && Number(end));
  table.hidden = rows.size === 0;
  $("#found").textContent = traces.length ? `${count(traces.length, "trace")}${oldest === null ? "" : ", the newest"}` : "";
  const narrowedTo = Boolean(q || start || end);
  $("#empty").hidden = traces.length > 0 || narrowedTo;
  $("#none").hidden = traces.length > 0 || !narrowedTo || oldest !== null;
  older.hidden = oldest === null || room >= MOST;
}

function note(answer) {
  const last = newestFirst(answer.traces).at(-1);
  older.firstChild.textContent = answer.complete || !answer.searchedTo ? "" : `Searched until ${shortTime(answer.searchedTo, 0)}.`;
  older.lastChild.textContent = answer.complete ? "Show older" : "Go on";
  if (!answer.complete) oldest = answer.searchedTo ?? last?.startTime ?? null;
  else oldest = answer.traces.length < PAGE ? null : last.startTime;
}

async function find({ q, start, end }, signal) {
  const query = new URLSearchParams({ q, limit: PAGE, ...(start && { start }), ...(end && { end }) });
  try {
    const answer = await load(`/api/find?${query}`, { signal });
    box.complain("");
    return answer;
  } catch (error) {
    if (error.status !== 400) throw error;
    box.complain(error.message);
    return { traces: [], complete: true };
  }
}

async function refresh(signal) {
  const here = location.search;
  const answer = await find(wanted(), signal);
  if (here !== location.search) return;
  const first = asked !== here;
  asked = here;
  if (answer.otlp) $("#otlp").textContent = answer.otlp;
  remember(answer.traces);
  if (first || room === PAGE) note(answer);
  draw();
}

async function goOn() {
  const here = location.search;
  const answer = await find({ ...wanted(), end: String(oldest) });
  if (here !== location.search) return;
  room = Math.min(MOST, room + PAGE);
  remember(answer.traces);
  note(answer);
  draw();
}

/** Show what the URL asks for from the beginning. */
function begin() {
  const { q, start, end } = wanted();
  known = new Map();
  room = PAGE;
  oldest = null;
  asked = "";
  box.value = q;
  const range = $("#range");
  range.hidden = !start && !end;
  const span = start && end ? end - start : 0;
  range.textContent = `${start ? shortTime(Number(start), span) : "…"} – ${end ? shortTime(Number(end), span) : "now"} ×`;
  range.title = "Show all times";
  const isNow = location.pathname === "/" && !location.search;
  for (const link of document.querySelectorAll("nav a")) {
    if (link.pathname === (isNow ? "/" : "/traces")) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  document.title = `${isNow ? "Now" : q || "Traces"} · Clearspan`;
  overview.shown = isNow;
  poll?.now();
}

const box = queryBox($("#search"), 'service=orders error duration>200ms http.route=/orders "some words"', (q) => go({ q }));
const drawScatter = scatter($("#scatter"), {
  narrow: (start, end) => go({ start: String(start), end: String(end) }),
  point: (id) => {
    for (const { row } of rows.values()) row.classList.toggle("pointed", row.dataset.trace === id);
  },
});
const overview = now($("#now"));
let poll;
begin();
poll = live(refresh);
pauseButton($("#pause"), poll);

$("#range").addEventListener("click", () => go({ start: null, end: null }));
fresh.addEventListener("click", () => {
  document.activeElement.blur();
  show([...known.values()]);
  fresh.hidden = true;
  if (body.getBoundingClientRect().top < 0) $("#search").scrollIntoView();
});
older.querySelector("button").addEventListener("click", () => goOn().catch(() => document.body.classList.add("offline")));
window.addEventListener("popstate", begin);
// Links to other queries stay on the page.
body.addEventListener("click", (event) => {
  const link = event.target.closest("a.chip");
  if (!link || event.ctrlKey || event.metaKey || event.shiftKey) return;
  event.preventDefault();
  history.pushState(null, "", link.href);
  begin();
});
