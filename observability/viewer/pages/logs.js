// Log records as they come, the newest first; a row opens to its attributes and to its place in the trace.

import { chip, count, element, load, time } from "./common.js";
import { shortTime } from "./chart.js";
import { besideReader, live, pauseButton } from "./live.js";
import { condition, narrowed } from "./query.js";
import { queryBox } from "./querybox.js";

const PAGE = 200;
const MOST = 2000;
const LEVELS = [[17, "error"], [13, "warning"], [9, "info"], [0, "debug"]];

const $ = (selector) => document.querySelector(selector);
const holder = $("#logs");
const fresh = $("#fresh");
const wanted = () => new URL(location).searchParams.get("q") ?? "";
const urlOf = (q) => (q ? `/logs?${new URLSearchParams({ q })}` : "/logs");
const textOf = (body) => (typeof body === "string" ? body : JSON.stringify(body));

// All that were found, and those that are shown, newest first, by what tells them apart.
let known = new Map();
let rows = new Map();
let room = PAGE;
let oldest = null; // where the search goes on, in microseconds

function go(q) {
  if (q === wanted()) poll.now();
  else {
    history.pushState(null, "", urlOf(q));
    begin();
  }
}

function remember(logs) {
  const again = new Map(); // records that are the same in all are told apart by their number
  for (const log of logs) {
    const same = `${log.timeUnixNano} ${log.traceID} ${log.spanID} ${log.service} ${log.severity} ${textOf(log.body)}`;
    again.set(same, (again.get(same) ?? 0) + 1);
    known.set(`${same} ${again.get(same)}`, log);
  }
  const newestFirst = [...known].sort(([, a], [, b]) => b.timeUnixNano.length - a.timeUnixNano.length || (a.timeUnixNano < b.timeUnixNano ? 1 : a.timeUnixNano > b.timeUnixNano ? -1 : 0));
  known = new Map(newestFirst.slice(0, room));
}

function levelOf({ severityNumber, severity }) {
  if (severityNumber) return LEVELS.find(([from]) => severityNumber >= from)[1];
  return /^(err|fatal|crit)/i.test(severity) ? "error" : /^warn/i.test(severity) ? "warning" : "info";
}

/** What a record says beside its message. */
function details(log) {
  const facts = element("dl");
  for (const { key, value } of log.attributes) {
    const link = element("a", "muted", "filter");
    link.href = urlOf(narrowed(wanted(), condition(key, value)));
    link.setAttribute("aria-label", `Only records whose ${key} is ${value}`);
    facts.append(element("dt", "", key), element("dd", "", element("span", "", value), " ", link));
  }
  const node = element("div", "opened", element("pre", "", textOf(log.body)), facts);
  if (log.traceID) {
    const link = element("a", "", "Its place in the trace");
    link.href = `/trace/${log.traceID}${log.spanID ? `?span=${log.spanID}` : ""}`;
    const same = element("a", "", "All records of the trace");
    same.href = urlOf(condition("trace", log.traceID));
    node.append(element("p", "", link, " · ", same));
  }
  return node;
}

function drawRow(log) {
  const message = element("span", "message", textOf(log.body));
  const summary = element("summary", "", time(Number(log.timeUnixNano.slice(0, -3) || 0)), element("span", "level", log.severity || "–"),
    element("span", "from", chip(log.service)), message);
  const row = element("details", `record ${levelOf(log)}`, summary);
  row.addEventListener("toggle", () => {
    if (row.open && row.children.length === 1) row.append(details(log));
  });
  return row;
}

/** Show these, keeping the rows that are there, opened as they are. */
function show(entries) {
  const before = rows;
  rows = new Map(entries.map(([key, log]) => [key, before.get(key) ?? { row: drawRow(log), log }]));
  for (const [key, { row }] of before) if (!rows.has(key)) row.remove();
  let at = holder.firstChild;
  for (const { row } of rows.values()) {
    if (row === at) at = at.nextSibling;
    else holder.insertBefore(row, at);
  }
}

const isBeingRead = () => rows.size > 0 && (holder.getBoundingClientRect().top < 0 || holder.matches(":hover") || holder.contains(document.activeElement) || holder.querySelector("[open]") !== null);

function draw() {
  const { entries, waiting } = isBeingRead()
    ? besideReader(known, new Map([...rows].map(([key, { log }]) => [key, log])))
    : { entries: [...known], waiting: 0 };
  show(entries);
  fresh.textContent = `${waiting} new`;
  fresh.hidden = !waiting;
  $("#found").textContent = entries.length ? `${count(entries.length, "record")}${oldest === null ? "" : ", the newest"}` : "";
  $("#empty").hidden = entries.length > 0 || Boolean(wanted());
  $("#none").hidden = entries.length > 0 || !wanted() || oldest !== null;
  $("#older").hidden = oldest === null || room >= MOST;
}

function note({ logs, complete, searchedTo }) {
  $("#older span").textContent = complete ? "" : `Searched until ${shortTime(searchedTo, 0)}.`;
  $("#older button").textContent = complete ? "Show older" : "Go on";
  oldest = complete ? (logs.length < PAGE ? null : logs.at(-1).timeUnixNano.slice(0, -3)) : String(searchedTo);
}

async function find(changes, signal) {
  const query = new URLSearchParams({ q: wanted(), limit: PAGE, ...changes });
  try {
    const answer = await load(`/api/logs?${query}`, { signal });
    box.complain("");
    return answer;
  } catch (error) {
    if (error.status !== 400) throw error;
    box.complain(error.message);
    return { logs: [], complete: true };
  }
}

async function refresh(signal) {
  const q = wanted();
  const answer = await find({}, signal);
  if (q !== wanted()) return;
  if (answer.otlp) $("#otlp").textContent = answer.otlp;
  remember(answer.logs);
  if (room === PAGE) note(answer);
  draw();
}

async function goOn() {
  const q = wanted();
  const answer = await find({ end: oldest });
  if (q !== wanted()) return;
  room = Math.min(MOST, room + PAGE);
  remember(answer.logs);
  note(answer);
  draw();
}

function begin() {
  known = new Map();
  room = PAGE;
  oldest = null;
  box.value = wanted();
  document.title = `${wanted() || "Logs"} · Clearspan`;
  show([]);
  poll?.now();
}

const box = queryBox($("#search"), 'service=orders severity=ERROR "some words"', go);
let poll;
begin();
poll = live(refresh);
pauseButton($("#pause"), poll);

fresh.addEventListener("click", () => {
  document.activeElement.blur();
  show([...known]);
  fresh.hidden = true;
  if (holder.getBoundingClientRect().top < 0) $("#search").scrollIntoView();
});
$("#older button").addEventListener("click", () => goOn().catch(() => document.body.classList.add("offline")));
window.addEventListener("popstate", begin);
// Links to other queries stay on the page.
holder.addEventListener("click", (event) => {
  const link = event.target.closest("a");
  if (!link?.getAttribute("href").startsWith("/logs") || event.ctrlKey || event.metaKey || event.shiftKey) return;
  event.preventDefault();
  if (link.href === location.href) return;
  history.pushState(null, "", link.href);
  begin();
});
