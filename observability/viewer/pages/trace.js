import { chip, colour, duration, element, extent, load, rootOf, tag, time } from "./common.js";

const PAGE = 1000;
const id = location.pathname.split("/").pop();
const waterfall = document.querySelector("#waterfall");
const details = document.querySelector("#details");
const title = document.querySelector("#title");

function depthFirst(trace) {
  const ids = new Set(trace.spans.map((span) => span.spanID));
  const children = new Map();
  for (const span of [...trace.spans].sort((a, b) => a.startTime - b.startTime)) {
    const parent = span.references.find((one) => one.refType === "CHILD_OF" && ids.has(one.spanID))?.spanID ?? "";
    children.set(parent, [...(children.get(parent) ?? []), span]);
  }
  const rows = [];
  const seen = new Set();
  const pending = (children.get("") ?? []).map((span) => [span, 0]).reverse();
  while (pending.length) {
    const [span, depth] = pending.pop();
    if (seen.has(span.spanID)) continue;
    seen.add(span.spanID);
    rows.push([span, depth]);
    for (const child of [...(children.get(span.spanID) ?? [])].reverse()) pending.push([child, depth + 1]);
  }
  return rows;
}

function facts(heading, tags) {
  if (!tags.length) return [];
  const list = element("dl");
  for (const one of [...tags].sort((a, b) => a.key.localeCompare(b.key)))
    list.append(element("dt", "", one.key), element("dd", "", one.value));
  return [element("h2", "", heading), list];
}

function describe(trace, span, logs, row) {
  for (const one of waterfall.querySelectorAll(".selected")) one.classList.remove("selected");
  row.classList.add("selected");
  row.scrollIntoView({ block: "nearest" });
  const process = trace.processes[span.processID];
  const links = span.references.filter((one) => one.refType === "FOLLOWS_FROM").map((one) => {
    const link = element("a", "", `span ${one.spanID} of trace ${one.traceID}`);
    link.href = `/trace/${one.traceID}`;
    return element("p", "", link);
  });
  details.replaceChildren(
    element("h1", "", span.operationName),
    element("p", "muted", chip(process.serviceName), ` ${duration(span.duration)}, started `, time(span.startTime)),
    ...facts("Attributes", span.tags),
    ...(links.length ? [element("h2", "", "Links"), ...links] : []),
    ...span.logs.flatMap((event) => facts(`Event at +${duration(event.timestamp - span.startTime)}`, event.fields)),
    ...logs.flatMap((log) => facts(`${log.severity} ${typeof log.body === "string" ? log.body : JSON.stringify(log.body)}`, log.attributes)),
    ...facts("Resource", process.tags),
  );
  details.hidden = false;
}

function draw(trace, logs) {
  const [start, length] = extent(trace);
  const root = rootOf(trace);
  const errors = trace.spans.filter((span) => tag(span, "error")).length;
  const services = new Set(Object.values(trace.processes).map((process) => process.serviceName));
  document.title = `${root.operationName} · Clearspan`;
  title.replaceChildren(
    element("strong", "", root.operationName), ` ${tag(root, "http.response.status_code") ?? ""} `,
    element("span", "muted", `${duration(length)} · ${trace.spans.length} spans · ${services.size} services · `), time(start), " ",
    ...(errors ? [element("span", "error", `${errors} error${errors > 1 ? "s" : ""}`)] : []),
  );
  const bySpan = new Map();
  for (const log of logs) bySpan.set(log.spanID, [...(bySpan.get(log.spanID) ?? []), log]);
  const rows = depthFirst(trace);
  const append = (from) => {
    for (const [span, depth] of rows.slice(from, from + PAGE)) {
      const service = trace.processes[span.processID].serviceName;
      const name = element("span", "name", element("span", "service", service), " ", span.operationName);
      name.style.setProperty("padding-left", `${depth * 14}px`);
      const bar = element("span", "bar");
      bar.style.setProperty("left", `${((span.startTime - start) / Math.max(1, length)) * 100}%`);
      bar.style.setProperty("width", `${(span.duration / Math.max(1, length)) * 100}%`);
      const row = element("div", tag(span, "error") ? "span failed" : "span", name,
        element("span", "number", duration(span.duration)), element("span", "track", bar));
      row.style.setProperty("--colour", colour(service));
      const own = bySpan.get(span.spanID) ?? [];
      row.addEventListener("click", () => describe(trace, span, own, row));
      waterfall.append(row);
      for (const log of own) {
        const text = typeof log.body === "string" ? log.body : JSON.stringify(log.body);
        const line = element("div", "log", element("b", log.severityNumber >= 17 ? "error" : "", log.severity), " ", text);
        line.style.setProperty("padding-left", `${depth * 14 + 26}px`);
        waterfall.append(line);
      }
    }
    if (from + PAGE < rows.length) {
      const more = element("button", "", `Show ${Math.min(PAGE, rows.length - from - PAGE)} more of ${rows.length} spans`);
      more.addEventListener("click", () => { more.remove(); append(from + PAGE); });
      waterfall.append(more);
    }
  };
  waterfall.replaceChildren();
  append(0);
}

document.addEventListener("keydown", (event) => {
  if (event.key !== "j" && event.key !== "k") return;
  const rows = [...waterfall.querySelectorAll(".span")];
  const at = rows.findIndex((row) => row.classList.contains("selected"));
  rows[Math.max(0, Math.min(rows.length - 1, at + (event.key === "j" ? 1 : -1)))]?.click();
});

try {
  const [[trace], logs] = await Promise.all([load(`/api/traces/${encodeURIComponent(id)}`), load(`/api/traces/${encodeURIComponent(id)}/logs`)]);
  draw(trace, logs);
} catch (error) {
  title.textContent = `This trace cannot be shown: ${error.message}`;
}
