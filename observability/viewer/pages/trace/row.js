// One row of the waterfall: a span, the attempts of a call, a log line, or what went wrong.
import { UNNAMED, colour, duration, element } from "../common.js";
import { isWait, outcome, waitedSince } from "./attempts.js";
import { textOf } from "./attributes.js";
import { ongoing, stateOf } from "./running.js";

const DEEPEST = 20; // levels that are indented, so that the names of deeper ones stay in sight

/** A row as an element; `state` is the page's, `index` the row's place among all. */
export function drawRow(row, index, state) {
  const { item, span } = row;
  const line = item.type === "log" || item.type === "problem";
  const cells = line ? lineCells(item) : spanCells(row, state);
  for (const cell of cells) cell.role = "gridcell";
  const node = element("div", `row ${item.type}`, ...cells);
  node.id = `row-${index}`;
  node.role = "row";
  node.dataset.index = index;
  node.ariaRowIndex = String(index + 2); // after the headings
  node.ariaLevel = String(row.level);
  node.ariaSetSize = String(row.size);
  node.ariaPosInSet = String(row.position);
  if (row.expanded !== undefined) node.ariaExpanded = String(row.expanded);
  node.ariaSelected = String(index === state.chosen);
  if (state.found && span && !state.found.has(span.id)) node.classList.add("other");
  node.style.setProperty("--level", Math.min(row.level - 1, DEEPEST));
  node.style.setProperty("--colour", colour(span?.service ?? item.service));
  return node;
}

/** Where a time is in view, in percent of its width. */
export function percent({ scale, view }, at) {
  const [from, to] = view.map(scale.place);
  return ((scale.place(at) - from) / (to - from)) * 100;
}

/** An element from one time to another; null if it is not in view. */
export function part(state, className, [start, end], thinnest = "0px") {
  const [left, right] = [percent(state, start), percent(state, end)];
  if (right < 0 || left > 100) return null;
  const node = element("span", className);
  // What goes far beyond the view is cut, since browsers lose precision in very wide elements.
  const [from, to] = [Math.max(-1, left), Math.min(101, right)];
  node.style.setProperty("left", `min(${from}%, 100% - ${thinnest})`);
  node.style.setProperty("width", `max(${to - from}%, ${thinnest})`);
  return node;
}

function lineCells(item) {
  const error = item.type === "problem" || item.severityNumber >= 17;
  const label = item.type === "problem" ? "failed" : item.severity || "log";
  const text = element("span", "text", textOf(item.body));
  const cell = element("div", "name", element("b", error ? "error" : "", label), " ", text);
  cell.title = textOf(item.body).slice(0, 1000);
  cell.ariaColSpan = "3";
  return [cell];
}

/** Draw again what of a row depends on time. */
export function retime(node, row, state) {
  if (!node.querySelector(".track")) return;
  const cells = timeCells(row, state);
  for (const cell of cells) cell.role = "gridcell";
  node.replaceChildren(node.firstChild, ...cells);
}

function spanCells(row, state) {
  return [nameCell(row), ...timeCells(row, state)];
}

function timeCells(row, state) {
  const { item, span } = row;
  const took = item.end - item.start;
  const number = element("div", "number", span.running ? ongoing(took) : span.unfinished && !span.silent ? "…" : duration(took));
  const track = element("div", "track", ...bars(item, state));
  track.ariaLabel = spoken(row, state);
  if (!track.childElementCount) track.append(element("span", percent(state, item.end) < 0 ? "beyond before" : "beyond after"));
  return [number, track];
}

function nameCell({ item, span, expanded }) {
  const fold = element("span", "fold");
  fold.ariaHidden = "true";
  if (expanded !== undefined) fold.classList.add(expanded ? "open" : "shut");
  const operation = element("span", "operation", item.name || UNNAMED);
  const cell = element("div", "name", fold, element("span", "service", item.service), " ", operation);
  cell.title = `${item.service} ${item.name}`;
  if (span.status === "error") cell.classList.add("failed");
  if (item.parent?.service === item.service) cell.classList.add("same");
  if (item.type === "attempts" && item.attempts.length > 1) cell.append(element("span", "badge", `${item.attempts.length} attempts`));
  if (item.type === "span" && expanded === false) cell.append(element("span", "badge", `+${item.below}`));
  if (span.running || span.silent) cell.append(element("span", `badge ${span.running ? "running" : "silent"}`, stateOf(span)));
  const marks = spansOf(item).flatMap((one) => one.marks);
  if (marks.length) {
    const mark = element("span", "mark", "⚠");
    mark.role = "img";
    mark.title = mark.ariaLabel = marks.join("; ");
    cell.append(mark);
  }
  return cell;
}

const spansOf = (item) => (item.type === "attempts" ? item.attempts : [item]);

/** What the bars show, in words. */
function spoken({ item, span }, { path }) {
  return [
    item.start > 0 ? `from +${duration(item.start)}` : "from the start",
    stateOf(span) || outcome(span),
    item.type === "attempts" ? `${item.attempts.length} attempts` : "",
    spansOf(item).some((one) => path?.has(one.id)) ? "on the critical path" : "",
  ].filter(Boolean).join(", ");
}

function bars(item, state) {
  const found = item.type === "attempts" ? attemptBars(item, state) : [bridge(item, state), bar(item, state)];
  for (const span of spansOf(item)) {
    for (const critical of state.path?.get(span.id) ?? []) found.push(part(state, "critical", critical, "1px"));
    for (const event of span.events) {
      const tick = part(state, event.name === "exception" ? "event failed" : "event", [event.at, event.at], "1px");
      if (tick) tick.title = `${event.name} at +${duration(Math.max(0, event.at))}`;
      found.push(tick);
    }
  }
  return found.filter(Boolean);
}

function attemptBars({ attempts, waits }, state) {
  const found = waits.map((wait) => part(state, "bar wait", wait));
  attempts.forEach((one, index) => {
    const node = bar(one, state);
    found.push(node);
    // Of two attempts beside each other one is drawn above the other.
    if (attempts[index - 1]?.end > one.start) node?.classList.add("lower");
    else if (attempts[index + 1]?.start < one.end) node?.classList.add("upper");
  });
  return found;
}

/** The wait of a message, from its producer to its consumer. */
function bridge(span, state) {
  const since = waitedSince(span);
  return since === null ? null : part(state, "bridge", [since, span.start]);
}

function bar(span, state) {
  const became = outcome(span);
  const node = part(state, isWait(span) ? "bar wait" : `bar ${became}`, [span.start, span.end], became === "refused" ? "8px" : "2px");
  if (span.status === "error") node?.classList.add("failed");
  if (span.unfinished) node?.classList.add(span.running ? "running" : "unfinished");
  return node;
}
