// One trace as it is looked at: its state, and what of it each part of the page shows.
import { idle } from "./attempts.js";
import { criticalPath } from "./critical-path.js";
import { attemptsDetails, button, copier, details, logDetails, soFar } from "./details.js";
import { graph } from "./graph.js";
import { heading, showLength } from "./heading.js";
import { bindKeys } from "./keys.js";
import { Minimap } from "./minimap.js";
import { attemptsOf, isSame, mentions, rowsOf, spansInOrder, wayTo } from "./rows.js";
import { canSqueeze, mostlyIdle, scaleOf } from "./scale.js";
import { grow } from "./tree.js";
import { around, clamped, zoomed } from "./view.js";
import { Waterfall } from "./waterfall.js";

const $ = (id) => document.getElementById(id);
const address = new URL(location);

/**
 * Show a trace; the address says what of it is looked at, and follows.
 * @param {{linkedFrom: object[], linkedTo: object[]}} others Spans of other traces that link to spans of this one, and that
 *     these link to.
 * @returns {{update: (trace: object, others: object) => void, retime: () => void}} Shows the trace as it has become,
 *     or the times of its running spans, and leaves the rest as it is looked at.
 */
export function show(trace, { linkedFrom = [], linkedTo = [] } = {}) {
  let roots, order, byId, path, gaps;
  let drawn = { start: trace.start, length: trace.length };

  /** Work out what can be known of the trace. */
  function grasp() {
    for (const span of trace.spans) Object.assign(span, { rows: undefined, lines: undefined });
    roots = grow(trace);
    order = spansInOrder(roots);
    byId = new Map(order.map((span) => [span.id, span]));
    for (const span of order.toReversed()) span.below = span.children.reduce((sum, child) => sum + 1 + child.below, 0);
    path = criticalPath(roots);
    gaps = idle(trace);
  }

  grasp();
  const linking = (span) =>
    order.filter((one) => one.links.some((link) => link.traceId === trace.id && link.spanId === span.id));
  const usual = mostlyIdle(trace.length, gaps);
  const squeezed = address.searchParams.has("squeezed") ? address.searchParams.get("squeezed") === "yes" : usual;
  const state = {
    trace,
    order,
    idle: gaps,
    scale: scaleOf(trace.length, gaps, squeezed),
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

  /** Have the state follow the trace, which has become longer or another one, and the view with it. */
  function follow() {
    const earlier = Number(drawn.start - trace.start);
    const whole = state.view[0] === 0 && state.view[1] === drawn.length;
    grasp();
    const isOn = (button) => $(button).ariaPressed === "true";
    Object.assign(state, {
      trace,
      order,
      idle: gaps,
      scale: scaleOf(trace.length, gaps, isOn("squeeze")),
      path: isOn("critical") ? path : null,
      view: whole ? [0, trace.length] : clamped(state.view.map((time) => time + earlier), trace.length),
    });
    $("squeeze").hidden = !canSqueeze(trace.length, gaps);
    drawn = { start: trace.start, length: trace.length };
  }

  function update(next, others) {
    const [shown, attempts] = [state.row, new Set(attemptsOf(roots))];
    trace = next;
    ({ linkedFrom = [], linkedTo = [] } = others);
    waterfall.around(() => {
      follow();
      for (const id of attemptsOf(roots)) if (!attempts.has(id)) state.folded.add(id);
      layOut();
      head();
      find();
    });
    if (state.pane === "graph" || (state.row && !isUnchanged(shown, state.row))) fillPane();
  }

  function retime() {
    follow();
    state.rows = rowsOf(roots, state.folded, { lines: state.lines, loose: trace.loose });
    state.row = state.rows[state.chosen] ?? null;
    waterfall.retime(state);
    minimap.show(state);
    showLength(trace);
    if (state.pane === "details" && state.row?.span?.running) $("pane").querySelector(".so-far")?.replaceWith(soFar(state.row.span));
  }

  function layOut() {
    state.rows = rowsOf(roots, state.folded, { lines: state.lines, loose: trace.loose });
    if (!state.row) return;
    const { item } = state.row;
    state.chosen = state.rows.findIndex((row) => isSame(row.item, item));
    // What has been folded away leaves its place to what it is in.
    for (let at = state.row.span; at && state.chosen < 0; at = at.parent)
      state.chosen = state.rows.findIndex((row) => isSame(row.item, at));
    state.row = state.rows[state.chosen] ?? null;
    if (!state.row && state.pane === "details") state.pane = "";
    if (!isSame(state.row?.item, item)) fillPane();
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
    const on = $("squeeze").ariaPressed === "true";
    set("squeezed", on !== usual && (on ? "yes" : "no"));
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

  function foldAll(on) {
    state.folded = new Set(on ? [...attemptsOf(roots), ...order.map((span) => span.id)] : []);
    if (on) for (const root of roots) state.folded.delete(root.id);
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
    // So that a screen reader follows, without taking the focus from anything else.
    if (document.activeElement === document.body) $("waterfall").focus({ preventScroll: true });
  }

  /** Choose a span, unfolding what is above it. */
  function go(wanted) {
    const span = byId.get(wanted.id); // as it has become
    if (!span) return;
    for (const id of wayTo(span)) state.folded.delete(id);
    layOut();
    const row = state.rows.find((one) => one.item === span);
    const [from, to] = state.view;
    const half = (to - from) / 2;
    if (span.end < from || span.start > to) state.view = clamped([span.start - half, span.start + half], trace.length);
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
      trace, path, linking, linkedFrom, linkedTo, go,
      zoom: (span) => look(around(span, trace.length)),
    };
    const shut = button("×", close);
    shut.className = "close";
    shut.ariaLabel = "Close the details";
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
  $("squeeze").ariaPressed = String(squeezed);
  $("squeeze").hidden = !canSqueeze(trace.length, gaps);
  const squeeze = toggle("squeeze", (on) => { state.scale = scaleOf(trace.length, gaps, on); paint(); });
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
  share.hidden = $("share").hidden;
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
  const escape = () => {
    if (!$("help").hidden) help();
    else if (document.activeElement === $("find")) {
      $("find").value = "";
      find();
      $("waterfall").focus();
    } else if (state.pane) close();
    else look([0, trace.length]);
  };
  const zoom = (factor) => look(zoomed(state.view, (state.view[0] + state.view[1]) / 2, factor, state));
  bindKeys([
    [["j", "ArrowDown"], "next span", () => move(1)],
    [["k", "ArrowUp"], "previous span", () => move(state.chosen < 0 ? 1 : -1)],
    [["h", "ArrowLeft"], "fold, or go to the parent", out],
    [["l", "ArrowRight"], "unfold", into],
    [["H"], "fold everything", () => foldAll(true)],
    [["L"], "unfold everything", () => foldAll(false)],
    [["Home"], "first span", () => choose(state.rows[0])],
    [["End"], "last span", () => move(state.rows.length)],
    [["PageDown"], "one screen down", () => move(waterfall.page)],
    [["PageUp"], "one screen up", () => move(-waterfall.page)],
    [["e"], "next error", () => jump(1, (span) => span.status === "error")],
    [["E"], "previous error", () => jump(-1, (span) => span.status === "error")],
    [["c"], "critical path", critical],
    [["m"], "log lines and errors", lines],
    [["s"], "services of the trace", services],
    [["w"], "squeeze the times in which nothing is done", squeeze],
    [["+"], "zoom in", () => zoom(0.5)],
    [["-"], "zoom out", () => zoom(2)],
    [["z"], "zoom to the chosen span", () => state.row?.span && look(around(state.row.span, trace.length))],
    [["0"], "see the whole time", () => look([0, trace.length])],
    [["/"], "find in this trace", () => $("find").select()],
    [["n"], "next match", () => nextMatch(1)],
    [["N"], "previous match", () => nextMatch(-1)],
    [["?"], "this help", help],
    [["Escape"], "close what is open", escape],
  ], $("help"));

  const head = () => heading(trace, roots, { jump, find: (text) => {
    $("find").value = $("find").value === text ? "" : text;
    find();
  } });
  head();
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
  return { update, retime };
}

/** Whether the pane would show the same of a row as it has become. */
function isUnchanged(before, now) {
  const said = ({ item, span }) => JSON.stringify([item.raw, span?.raw, span?.marks, span?.running, span?.logs.length, item.attempts?.map((one) => one.raw)]);
  return said(before) === said(now);
}
