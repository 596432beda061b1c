// One trace, of the viewer or of a file: its state, and what of it each part of the page shows.
import { UNNAMED, chip, colour, count, duration, element, load, statusOf, time } from "../common.js";
import { idle } from "./attempts.js";
import { around, clamped, zoomed } from "./axis.js";
import { criticalPath } from "./critical-path.js";
import { attemptsDetails, copier, details, logDetails } from "./details.js";
import { acceptDrops, open, opened } from "./file.js";
import { graph } from "./graph.js";
import { bindKeys } from "./keys.js";
import { Minimap } from "./minimap.js";
import { tracesOf } from "./otlp.js";
import { attemptsOf, mentions, rowsOf, spansInOrder, wayTo } from "./rows.js";
import { attribute, grow, rootOf } from "./tree.js";
import { Waterfall } from "./waterfall.js";

const $ = (id) => document.getElementById(id);
const address = new URL(location);

/** Show a trace; the address says what of it is looked at, and follows. */
function show(trace, linkedFrom = []) {
  const roots = grow(trace);
  const order = spansInOrder(roots);
  const byId = new Map(order.map((span) => [span.id, span]));
  for (const span of order.toReversed()) span.below = span.children.reduce((sum, child) => sum + 1 + child.below, 0);
  const backlinks = new Map();
  for (const span of order)
    for (const link of span.links) if (link.traceId === trace.id) backlinks.set(link.spanId, [...(backlinks.get(link.spanId) ?? []), span]);
  const path = criticalPath(roots);
  const state = {
    trace,
    order,
    idle: idle(trace),
    rows: [],
    folded: new Set(attemptsOf(roots)),
    lines: true,
    path,
    view: [0, trace.length],
    row: null, // the chosen one
    chosen: -1, // its index
    found: null,
    pane: "", // "details" or "graph"
  };
  const waterfall = new Waterfall($("waterfall"), { choose: (row) => choose(row, { toggle: true }), fold, look });
  const minimap = new Minimap($("minimap"), look);

  function layOut() {
    state.rows = rowsOf(roots, state.folded, { lines: state.lines, loose: trace.loose });
    state.chosen = state.row ? state.rows.findIndex((row) => row.item === state.row.item) : -1;
    if (state.chosen >= 0) state.row = state.rows[state.chosen];
  }

  function paint() {
    waterfall.show(state);
    minimap.show(state);
    remember();
  }

  function remember() {
    const { searchParams } = address;
    const set = (name, value) => (value ? searchParams.set(name, value) : searchParams.delete(name));
    const zoomedIn = state.view[0] > 0 || state.view[1] < trace.length;
    set("span", state.pane === "details" && state.row?.span?.id);
    set("from", zoomedIn && String(Math.round(state.view[0])));
    set("to", zoomedIn && String(Math.round(state.view[1])));
    set("find", $("find").value);
    clearTimeout(remember.later); // browsers allow few changes a second
    remember.later = setTimeout(() => history.replaceState(null, "", address), 200);
  }

  function look(view) {
    state.view = view;
    paint();
  }

  function fold(row, to = row.expanded) {
    if (row.expanded === undefined || row.expanded !== to) return;
    if (to) state.folded.add(row.item.id);
    else state.folded.delete(row.item.id);
    layOut();
    paint();
  }

  function choose(row, { toggle = false } = {}) {
    if (toggle && state.row?.item === row.item && state.pane === "details") return close();
    state.row = row;
    state.chosen = state.rows.indexOf(row);
    state.pane = "details";
    fillPane();
    paint();
    waterfall.reveal(state.chosen);
  }

  /** Choose a span, unfolding what is above it. */
  function go(span) {
    for (const id of wayTo(span)) state.folded.delete(id);
    layOut();
    const row = state.rows.find((one) => one.item === span);
    if (span.end < state.view[0] || span.start > state.view[1]) state.view = clamped([span.start - (state.view[1] - state.view[0]) / 2, span.start + (state.view[1] - state.view[0]) / 2], trace.length);
    if (row) choose(row);
  }

  function close() {
    state.pane = "";
    state.row = null;
    state.chosen = -1;
    fillPane();
    paint();
  }

  function fillPane() {
    const pane = $("pane");
    const { row } = state;
    pane.hidden = !state.pane;
    $("graph").ariaPressed = String(state.pane === "graph");
    if (!state.pane) return pane.replaceChildren();
    const about = {
      trace, path, linkedFrom, go,
      linkedTo: (span) => backlinks.get(span.id) ?? [],
      zoom: (span) => look(around(span, trace.length)),
    };
    const shut = element("button", "close", "×");
    shut.type = "button";
    shut.ariaLabel = "Close the details";
    shut.addEventListener("click", close);
    pane.replaceChildren(shut, ...shown(row, about));
    pane.scrollTop = 0;
  }

  function shown(row, about) {
    if (state.pane === "graph") return graph(order);
    if (row.item.type === "attempts") return attemptsDetails(row.item, about);
    return row.span ? details(row.span, about) : logDetails(row.item);
  }

  function move(by) {
    const next = Math.max(0, Math.min(state.rows.length - 1, state.chosen + by));
    // From one span to the next: log lines are read where they stand.
    const step = Math.sign(by);
    let at = next;
    while (state.rows[at] && (state.rows[at].item.type === "log" || state.rows[at].item.type === "problem")) at += step;
    if (state.rows[at]) choose(state.rows[at]);
  }

  /** Choose the next span in order that meets a condition, from the top again after the last one. */
  function jump(by, condition) {
    const from = order.indexOf(state.row?.span);
    for (let step = 1; step <= order.length; step += 1) {
      const at = by > 0 ? from + step : (from < 0 ? order.length : from) - step;
      const span = order[((at % order.length) + order.length) % order.length];
      if (condition(span)) return go(span);
    }
    return undefined;
  }

  function find() {
    const wanted = $("find").value.trim().toLowerCase();
    state.found = wanted ? new Set(order.filter((span) => mentions(span, wanted)).map((span) => span.id)) : null;
    $("matches").textContent = state.found ? `${state.found.size} of ${order.length}` : "";
    paint();
  }

  const nextMatch = (by) => state.found?.size && jump(by, (span) => state.found.has(span.id));

  function toggle(button, change) {
    const run = () => {
      const on = $(button).ariaPressed !== "true";
      $(button).ariaPressed = String(on);
      change(on);
    };
    $(button).addEventListener("click", run);
    return run;
  }

  const critical = toggle("critical", (on) => { state.path = on ? path : null; paint(); });
  const lines = toggle("lines", (on) => { state.lines = on; layOut(); paint(); });
  const services = () => {
    state.pane = state.pane === "graph" ? (state.row ? "details" : "") : "graph";
    fillPane();
    paint();
  };
  const help = () => {
    $("help").hidden = !$("help").hidden;
    $("keys").ariaExpanded = String(!$("help").hidden);
  };
  $("graph").addEventListener("click", services);
  $("keys").addEventListener("click", help);
  $("find").addEventListener("input", find);
  $("find").addEventListener("keydown", (event) => {
    if (event.key === "Enter") nextMatch(event.shiftKey ? -1 : 1);
  });
  const share = copier("Copy link", () => address.href);
  share.id = "share";
  share.title = $("share").title;
  $("share").replaceWith(share);

  const out = () => {
    if (!state.row) return;
    if (state.row.expanded) return fold(state.row, true);
    const parent = state.rows.findLast((row, index) => index < state.chosen && row.level < state.row.level);
    if (parent) choose(parent);
  };
  const into = () => {
    if (state.row?.expanded === false) fold(state.row, false);
    else if (state.row?.expanded) move(1);
  };
  const zoom = (factor) => look(zoomed(state.view, (state.view[0] + state.view[1]) / 2, factor, trace.length));
  bindKeys([
    [["j", "ArrowDown"], "next span", () => move(1)],
    [["k", "ArrowUp"], "previous span", () => move(state.chosen < 0 ? 1 : -1)],
    [["h", "ArrowLeft"], "fold, or go to the parent", out],
    [["l", "ArrowRight"], "unfold", into],
    [["Home"], "first span", () => choose(state.rows[0])],
    [["End"], "last span", () => move(state.rows.length)],
    [["PageDown"], "one screen down", () => move(waterfall.page)],
    [["PageUp"], "one screen up", () => move(-waterfall.page)],
    [["e"], "next error", () => jump(1, (span) => span.status === "error")],
    [["E"], "previous error", () => jump(-1, (span) => span.status === "error")],
    [["c"], "critical path", critical],
    [["m"], "log lines and errors", lines],
    [["s"], "services of the trace", services],
    [["+"], "zoom in", () => zoom(0.5)],
    [["-"], "zoom out", () => zoom(2)],
    [["z"], "zoom to the chosen span", () => state.row?.span && look(around(state.row.span, trace.length))],
    [["0"], "see the whole time", () => look([0, trace.length])],
    [["/"], "find in this trace", () => $("find").select()],
    [["n"], "next match", () => nextMatch(1)],
    [["N"], "previous match", () => nextMatch(-1)],
    [["?"], "this help", help],
    [["Escape"], "close what is open", () => {
      if (!$("help").hidden) help();
      else if (document.activeElement === $("find")) {
        $("find").value = "";
        find();
        $("waterfall").focus();
      } else if (state.pane) close();
      else look([0, trace.length]);
    }],
  ], $("help"));

  heading(trace, roots);
  for (const node of [$("tools"), $("minimap"), $("waterfall")]) node.hidden = false;
  $("open").hidden = true;
  const [from, to] = ["from", "to"].map((name) => Number(address.searchParams.get(name) ?? Number.NaN));
  if (to > from) state.view = clamped([from, to], trace.length);
  $("find").value = address.searchParams.get("find") ?? "";
  layOut();
  const asked = byId.get(address.searchParams.get("span"));
  if (asked) go(asked);
  find();
  if (asked) waterfall.reveal(state.chosen);
}

function heading(trace, roots) {
  const root = rootOf(roots);
  const { spans } = trace;
  const errors = spans.filter((span) => span.status === "error").length;
  const odd = spans.filter((span) => span.marks.length).length;
  document.title = `${root.name || UNNAMED} · Clearspan`;
  $("title").textContent = root.name || UNNAMED;
  $("title").title = root.name;
  const when = time(Number(trace.start / 1000n));
  when.title = `${when.title}, ${trace.start} ns since 1970`;
  $("facts").replaceChildren(
    statusOf(attribute(root, "http.response.status_code")),
    element("strong", "", duration(trace.length)),
    element("span", "muted", count(spans.length, "span")),
    when,
    ...(errors ? [element("span", "error", count(errors, "error"))] : []),
    ...(odd ? [element("span", "odd", `⚠ ${odd} odd`)] : []),
  );
  const services = Map.groupBy(spans, (span) => span.service);
  $("services").replaceChildren(...[...services].map(([service, found]) => {
    const node = chip(service, "");
    const failed = found.filter((span) => span.status === "error").length;
    node.append(element("bdi", "", service), ` ${found.length}`, ...(failed ? [element("span", "error", ` ${failed}`)] : []));
    node.title = `${service}: ${count(found.length, "span")}, ${count(failed, "error")}`;
    node.style.setProperty("--colour", colour(service));
    return node;
  }));
}

function complain(error) {
  $("title").textContent = `This trace cannot be shown: ${error.message}`;
}

async function showFile() {
  const trouble = (text) => { $("trouble").textContent = text; };
  $("title").textContent = "Open a file";
  $("file").addEventListener("change", () => $("file").files[0] && open($("file").files[0]).catch((error) => trouble(error.message)));
  $("open").hidden = false;
  try {
    const file = await opened();
    if (!file) return;
    if (file.leftOut) trouble(`${count(file.leftOut, "span")} of ${file.name} could not be taken.`);
    const wanted = address.searchParams.get("trace") ?? (file.traces.length === 1 ? file.traces[0].id : "");
    const trace = file.traces.find((one) => one.id === wanted);
    if (trace) return show(trace);
    $("choices").replaceChildren(...file.traces.map((one) => {
      const link = element("a", "", rootOf(grow(one)).name || UNNAMED);
      link.href = `/open?trace=${one.id}`;
      return element("li", "", link, element("span", "muted", ` ${duration(one.length)}, ${count(one.spans.length, "span")}`));
    }));
  } catch (error) {
    trouble(error.message);
  }
}

acceptDrops(complain);
if (location.pathname === "/open") await showFile();
else {
  const id = location.pathname.split("/").pop();
  try {
    const source = `/api/recent/${encodeURIComponent(id)}/otlp`;
    const answer = await load(source);
    const { traces: [trace] } = tracesOf([answer]);
    $("download").href = source;
    $("download").hidden = false;
    show(trace, answer.linkedFrom ?? []);
  } catch (error) {
    complain(error);
  }
}
