import { UNNAMED, chip, colour, count, duration, element, load, statusOf, time } from "./common.js";

const PAGE = 1000;
const DEEPEST = 24; // levels that are indented, so that the names of deeper ones stay in sight
const id = location.pathname.split("/").pop();
const waterfall = document.querySelector("#waterfall");
const details = document.querySelector("#details");
const title = document.querySelector("#title");

const tag = (span, key) => span.tags.find((one) => one.key === key)?.value;
const parentOf = (span) => span.references.find((one) => one.refType === "CHILD_OF")?.spanID;
const textOf = (body) => (typeof body === "string" ? body : JSON.stringify(body));

/** Each span with its depth, parents before children; `spans` come by their start. */
function depthFirst(spans) {
  const ids = new Set(spans.map((span) => span.spanID));
  const children = new Map();
  for (const span of spans) {
    const parent = ids.has(parentOf(span)) ? parentOf(span) : "";
    if (!children.has(parent)) children.set(parent, []);
    children.get(parent).push(span);
  }
  const rows = [];
  const seen = new Set();
  // The spans themselves come last: what is its own ancestor has no root above it.
  for (const top of [...(children.get("") ?? []), ...spans]) {
    const pending = [[top, 0]];
    while (pending.length) {
      const [span, depth] = pending.pop();
      if (seen.has(span.spanID)) continue;
      seen.add(span.spanID);
      rows.push([span, Math.min(depth, DEEPEST)]);
      for (const child of [...(children.get(span.spanID) ?? [])].reverse()) pending.push([child, depth + 1]);
    }
  }
  return rows;
}

function facts(heading, tags) {
  if (!tags.length) return [];
  const list = element("dl");
  for (const { key, value } of [...tags].sort((a, b) => a.key.localeCompare(b.key))) {
    const long = String(value).length > 60 || String(value).includes("\n") ? "long" : "";
    list.append(element("dt", long, key), element("dd", long, value));
  }
  return [element("h2", "", heading), list];
}

function described(log) {
  const heading = element("h2", "", element("b", log.severityNumber >= 17 ? "error" : "", log.severity), " ", textOf(log.body));
  return [heading, ...facts("", log.attributes).slice(1)];
}

/** Show a span's details; hide them if it is the one that is shown. */
function choose(trace, span, logs, row) {
  details.hidden = row.classList.contains("selected");
  for (const one of waterfall.querySelectorAll(".selected")) one.classList.remove("selected");
  if (details.hidden) return;
  row.classList.add("selected");
  row.scrollIntoView({ block: "nearest" });
  const process = trace.processes[span.processID];
  const links = span.references.filter((one) => one.refType === "FOLLOWS_FROM").map((one) => {
    const link = element("a", "", `span ${one.spanID} of trace ${one.traceID}`);
    link.href = `/trace/${one.traceID}`;
    return element("p", "", link);
  });
  details.replaceChildren(
    element("h1", "", span.operationName || UNNAMED),
    element("p", "muted", chip(process.serviceName), ` ${duration(span.durationNano)}, from +${duration(span.offsetNano)}`),
    ...facts("Attributes", span.tags),
    ...(links.length ? [element("h2", "", "Links"), ...links] : []),
    ...span.logs.flatMap((event) => facts(`Event at +${duration(Math.max(0, event.timestamp - span.startTime) * 1000)}`, event.fields)),
    ...logs.flatMap(described),
    ...facts("Resource", process.tags),
  );
  details.scrollTop = 0;
}

function drawLog(log, depth) {
  const line = element("div", "log", element("b", log.severityNumber >= 17 ? "error" : "", log.severity), " ", element("span", "", textOf(log.body)));
  line.style.setProperty("--depth", depth);
  return line;
}

function drawSpan(trace, span, depth, length, logs) {
  const { serviceName } = trace.processes[span.processID];
  const name = element("span", "name", element("span", "service", serviceName), " ", element("span", "operation", span.operationName || UNNAMED));
  name.title = `${serviceName} ${span.operationName}`;
  const bar = element("span", "bar");
  bar.style.setProperty("left", `min(${(span.offsetNano / length) * 100}%, 100% - 2px)`);
  bar.style.setProperty("width", `${(span.durationNano / length) * 100}%`);
  const row = element("div", tag(span, "error") ? "span failed" : "span", name,
    element("span", "number", duration(span.durationNano)), element("span", "track", bar));
  row.style.setProperty("--colour", colour(serviceName));
  row.style.setProperty("--depth", depth);
  const nodes = [row, ...logs.map((log) => drawLog(log, depth + 1))];
  for (const node of nodes) node.addEventListener("click", () => choose(trace, span, logs, row));
  return nodes;
}

function draw(trace) {
  const { spans } = trace;
  const length = Math.max(1, ...spans.map((span) => span.offsetNano + span.durationNano));
  const root = spans.find((span) => !parentOf(span)) ?? spans[0];
  const errors = spans.filter((span) => tag(span, "error")).length;
  const services = new Set(Object.values(trace.processes).map((process) => process.serviceName)).size;
  document.title = `${root.operationName} · Clearspan`;
  title.replaceChildren(
    element("strong", "", root.operationName || UNNAMED), statusOf(tag(root, "http.response.status_code")),
    element("span", "muted", `${duration(length)} · ${count(spans.length, "span")} · ${count(services, "service")} · `,
      time(spans[0].startTime)),
    ...(errors ? [element("span", "error", count(errors, "error"))] : []),
  );
  const bySpan = new Map();
  for (const log of trace.logs) {
    if (!bySpan.has(log.spanID)) bySpan.set(log.spanID, []);
    bySpan.get(log.spanID).push(log);
  }
  const take = (spanID) => {
    const logs = bySpan.get(spanID) ?? [];
    bySpan.delete(spanID);
    return logs;
  };
  const rows = depthFirst(spans);
  const append = (from) => {
    for (const [span, depth] of rows.slice(from, from + PAGE))
      waterfall.append(...drawSpan(trace, span, depth, length, take(span.spanID)));
    const left = rows.length - from - PAGE;
    if (left <= 0) {
      // What belongs to the trace, but to none of its spans that have come.
      for (const logs of bySpan.values()) waterfall.append(...logs.map((log) => drawLog(log, 0)));
      return;
    }
    const more = element("button", "more", `Show ${Math.min(PAGE, left)} more of ${rows.length} spans`);
    more.addEventListener("click", () => { more.remove(); append(from + PAGE); });
    waterfall.append(more);
  };
  waterfall.replaceChildren();
  append(0);
}

document.addEventListener("keydown", (event) => {
  if ((event.key !== "j" && event.key !== "k") || event.ctrlKey || event.metaKey || event.altKey) return;
  const rows = [...waterfall.querySelectorAll(".span")];
  const at = rows.findIndex((row) => row.classList.contains("selected"));
  const next = Math.max(0, Math.min(rows.length - 1, at + (event.key === "j" ? 1 : -1)));
  if (next !== at) rows[next]?.click();
});

try {
  draw(await load(`/api/recent/${encodeURIComponent(id)}`));
} catch (error) {
  title.textContent = `This trace cannot be shown: ${error.message}`;
}
