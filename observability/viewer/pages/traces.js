// The live list of traces with its query, and above it, on the page `/`, what is wrong now.

import { UNNAMED, chip, count, duration, element, load, statusOf, time } from "./common.js";
import { shortTime } from "./chart.js";
import { besideReader, live, pauseButton } from "./live.js";
import { now } from "./now.js";
import { condition, narrowed } from "./query.js";
import { queryBox } from "./querybox.js";
import { scatter } from "./scatter.js";
import { WHY, boxOf, why } from "./why.js";

const PAGE = 100;
const MOST = 1500;
const SLOW = 0.9; // of the traces, that are faster than those that are called slow
const ENOUGH = 20; // traces of which some may be called so

const $ = (selector) => document.querySelector(selector);
const table = $("#traces");
const body = table.tBodies[0];
const fresh = $("#fresh");
const older = $("#older");

/** What the URL asks for; `asked` is what of it asks what sets some of the traces apart. */
function wanted() {
  const parameters = new URL(location).searchParams;
  const asked = Object.fromEntries(WHY.filter((name) => parameters.has(name)).map((name) => [name, parameters.get(name)]));
  return { q: parameters.get("q") ?? "", start: parameters.get("start"), end: parameters.get("end"), asked };
}

function urlOf({ q, start, end, asked }) {
  const query = new URLSearchParams({ ...(q && { q }), ...(start && { start }), ...(end && { end }), ...asked });
  return query.size ? `/traces?${query}` : location.pathname;
}

const isNow = () => location.pathname === "/" && !location.search;

/** What of the URL the list depends on. */
function listed() {
  const { q, start, end } = wanted();
  return JSON.stringify([isNow(), q, start, end]);
}

function go(changes) {
  const url = urlOf({ ...wanted(), ...changes });
  if (url === location.pathname + location.search) {
    sets(wanted());
    poll.now();
  } else {
    history.pushState(null, "", url);
    begin();
  }
}

// What has been found: by its id, and in the table. New ones wait in `known` while the reader looks at the table.
let known = new Map();
let rows = new Map();
let room = PAGE;
let oldest = null; // where the search goes on, in microseconds
let begun = ""; // the list that is asked for
let shownList = "";
let picked = []; // ids of those to compare, two at most

const newestFirst = (traces) => traces.sort((a, b) => b.startTime - a.startTime || (a.traceID < b.traceID ? 1 : -1));

function remember(traces) {
  for (const trace of traces) known.set(trace.traceID, trace);
  known = new Map(newestFirst([...known.values()]).slice(0, room).map((trace) => [trace.traceID, trace]));
}

/** Choose a trace, or no longer; of three the first one goes. */
function pick(id, isPicked) {
  picked = [...picked.filter((one) => one !== id), ...(isPicked ? [id] : [])].slice(-2);
  for (const box of body.querySelectorAll(".pick input")) box.checked = picked.includes(box.value);
  const [a, b] = [...known.keys()].filter((one) => picked.includes(one)).reverse(); // the older one first
  const link = element("a", "", "Compare the two");
  link.href = `/compare?${new URLSearchParams({ a, b })}`;
  $("#picked").replaceChildren(...(b ? [link] : picked.length ? ["Choose another one to compare it with"] : []));
}

function drawRow(trace, longest) {
  const box = element("input");
  Object.assign(box, { type: "checkbox", value: trace.traceID, checked: picked.includes(trace.traceID), title: "Compare" });
  box.setAttribute("aria-label", `Compare ${trace.name || UNNAMED}, ${duration(trace.durationNano)}`);
  box.addEventListener("change", () => pick(trace.traceID, box.checked));
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
  const row = element("tr", "", element("td", "pick", box), element("td", "when", time(trace.startTime)), request, element("td", "services", ...chips),
    element("td", "wide", element("div", "measure", element("span", "number", duration(trace.durationNano)), element("div", "extent", bar))));
  row.dataset.trace = trace.traceID;
  return row;
}

/** Show these, keeping the rows of those that have not changed, and the focus in those that have. */
function show(traces) {
  const longest = Math.max(1, ...traces.map((trace) => trace.durationNano));
  const reached = (row) => [...row.querySelectorAll("a, input")];
  const before = rows;
  rows = new Map();
  for (const trace of traces) {
    const state = JSON.stringify([trace, longest]);
    const kept = before.get(trace.traceID);
    const row = kept?.state === state ? kept.row : drawRow(trace, longest);
    if (kept && kept.row !== row) {
      const focused = reached(kept.row).indexOf(document.activeElement);
      kept.row.replaceWith(row);
      reached(row)[focused]?.focus({ preventScroll: true });
    }
    rows.set(trace.traceID, { row, state, trace });
  }
  for (const [id, { row }] of before) if (!rows.has(id)) row.remove();
  let at = body.firstChild;
  for (const { row } of rows.values()) {
    if (row === at) at = at.nextSibling;
    else body.insertBefore(row, at);
  }
}

const isBeingRead = () => rows.size > 0 && (picked.length > 0 || body.getBoundingClientRect().top < 0 || body.matches(":hover") || body.contains(document.activeElement));

/** Offer to ask what sets some of these apart. */
function offer(traces, q, asked) {
  const failed = traces.filter((trace) => trace.errors).length;
  $("#errors").hidden = !failed || failed === traces.length;
  $("#slow").hidden = traces.length < ENOUGH;
  $("#these").hidden = !q || !traces.length;
  $("#asks").hidden = $("#errors").hidden && $("#slow").hidden && $("#these").hidden;
  for (const [id, name] of [["#errors", "errors"], ["#these", "query"]]) $(id).setAttribute("aria-pressed", String(asked.why === name));
}

/** Ask of the traces that began and took so, among those that are known. */
function askOfBox({ from, to, shortest, longest }) {
  const starts = [...known.values()].map((trace) => trace.startTime);
  const [since, until] = [starts.at(-1), starts[0] + 1];
  go({ asked: { why: "box", from, to, ...(shortest > 0 && { shortest }), ...(longest < Infinity && { longest }), since, until } });
}

function askOfSlow() {
  const traces = [...known.values()];
  const durations = traces.map((trace) => trace.durationNano).sort((a, b) => a - b);
  askOfBox({ from: traces.at(-1).startTime, to: traces[0].startTime, shortest: durations[Math.floor(SLOW * durations.length)], longest: Infinity });
}

/** Show what is known; `isOther` if it is of another query than what is shown. */
function draw(isOther) {
  const traces = [...known.values()];
  const { q, start, end, asked } = wanted();
  // A row stays where it is while it is read, so what would come above it waits; what it says is kept true.
  const { entries, waiting } = !isOther && isBeingRead()
    ? besideReader(known, new Map([...rows].map(([id, { trace }]) => [id, trace])))
    : { entries: [...known], waiting: 0 };
  show(entries.map(([, trace]) => trace));
  fresh.textContent = `${waiting} new`;
  fresh.hidden = !waiting;
  drawScatter(traces, start && Number(start), end && Number(end), boxOf(asked));
  offer(traces, q, asked);
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
  const here = listed();
  const answer = await find(wanted(), signal);
  if (here !== listed()) return;
  const first = shownList !== here;
  shownList = here;
  if (answer.otlp) $("#otlp").textContent = answer.otlp;
  remember(answer.traces);
  if (first || room === PAGE) note(answer);
  draw(first);
}

async function goOn() {
  const here = listed();
  const answer = await find({ ...wanted(), end: String(oldest) });
  if (here !== listed()) return;
  room = Math.min(MOST, room + PAGE);
  remember(answer.traces);
  note(answer);
  draw(false);
}

/** Show what the URL asks for; the list from the beginning, if it is another one. */
function begin() {
  sets(wanted());
  if (begun === listed()) draw(false);
  else beginList();
}

function beginList() {
  const { q, start, end } = wanted();
  begun = listed();
  known = new Map();
  room = PAGE;
  oldest = null;
  shownList = "";
  picked = [];
  $("#picked").replaceChildren();
  box.value = q;
  const range = $("#range");
  range.hidden = !start && !end;
  const span = start && end ? end - start : 0;
  range.textContent = `${start ? shortTime(Number(start), span) : "…"} – ${end ? shortTime(Number(end), span) : "now"} ×`;
  range.title = "Show all times";
  const now = isNow();
  for (const link of document.querySelectorAll("nav a")) {
    if (link.pathname === (now ? "/" : "/traces")) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  document.title = `${now ? "Now" : q || "Traces"} · Clearspan`;
  overview.shown = now;
  poll?.now();
}

const box = queryBox($("#search"), 'service=orders error duration>200ms http.route=/orders "some words"', (q) => go({ q }));
const drawScatter = scatter($("#scatter"), {
  narrow: (start, end) => go({ start: String(start), end: String(end), asked: {} }),
  box: askOfBox,
  point: (id) => {
    for (const { row } of rows.values()) row.classList.toggle("pointed", row.dataset.trace === id);
  },
});
const overview = now($("#now"));
const sets = why($("#why"), {
  add: (condition, isMore) => urlOf({ ...wanted(), q: isMore ? narrowed(wanted().q, condition) : condition }),
  close: () => go({ asked: {} }),
});
let poll;
begin();
poll = live(refresh);
pauseButton($("#pause"), poll);

$("#range").addEventListener("click", () => go({ start: null, end: null }));
$("#errors").addEventListener("click", () => go({ asked: { why: "errors" } }));
$("#slow").addEventListener("click", askOfSlow);
$("#these").addEventListener("click", () => go({ asked: { why: "query" } }));
fresh.addEventListener("click", () => {
  document.activeElement.blur();
  picked = picked.filter((id) => known.has(id));
  show([...known.values()]);
  fresh.hidden = true;
  if (body.getBoundingClientRect().top < 0) $("#search").scrollIntoView();
});
older.querySelector("button").addEventListener("click", () => goOn().catch(() => document.body.classList.add("offline")));
window.addEventListener("popstate", begin);
// Links to other queries stay on the page.
document.querySelector("main").addEventListener("click", (event) => {
  const link = event.target.closest("#traces a.chip, #why a");
  if (!link || event.ctrlKey || event.metaKey || event.shiftKey) return;
  event.preventDefault();
  if (link.href === location.href) return;
  history.pushState(null, "", link.href);
  begin();
});
