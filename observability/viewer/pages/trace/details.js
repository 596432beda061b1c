// The pane beside the waterfall: all that is known about a span.
import { UNNAMED, chip, count, duration, element } from "../common.js";
import { outcome } from "./attempts.js";
import { byNamespace, convention, search, textOf, unit } from "./attributes.js";
import { onPath } from "./critical-path.js";
import { ongoing, stateOf } from "./running.js";
import { attribute } from "./tree.js";

const LONG = 60; // characters that still stand beside their name

/**
 * @param {object} span
 * @param {object} about What surrounds it: its `trace`, the critical `path`, spans of the trace `linking` to one, the
 *     spans of other traces that link to this one (`linkedFrom`) and that it links to (`linkedTo`), as far as they are known; and what its buttons ask for: to `go` and to `zoom` to a span.
 * @returns {HTMLElement[]} What the pane shows.
 */
export function details(span, about) {
  const critical = onPath(about.path, span);
  const facts = [
    span.kind === "unspecified" ? "" : span.kind,
    span.running ? "" : span.unfinished ? stateOf(span) : duration(span.end - span.start),
    span.start > 0 ? `from +${duration(span.start)}` : "",
    critical ? `${duration(critical)} on the critical path` : "",
  ];
  return [
    element("h2", "title", span.name || UNNAMED),
    element("p", "muted", chip(span.service), ...(span.running ? [soFar(span), " · "] : []), facts.filter(Boolean).join(" · ")),
    ...status(span),
    ...(span.marks.length ? [element("ul", "marks", ...span.marks.map((mark) => element("li", "", mark)))] : []),
    element("p", "buttons",
      button("Zoom to it", () => about.zoom(span)),
      copier("Copy id", span.id),
      ...(span.parent ? [button("Parent", () => about.go(span.parent))] : [])),
    ...namespaces("Attributes", span.attributes, { searched: true }),
    ...span.events.flatMap((event) => eventOf(event)),
    ...links(span, about),
    ...(span.logs.length ? [element("h3", "", "Log lines"), ...span.logs.flatMap(logOf)] : []),
    ...folded("Resource", namespaces("", span.resource, { searched: true })),
    ...folded("Scope and ids", factList([
      ["scope", [span.scope.name, span.scope.version].filter(Boolean).join(" ")],
      ["trace", span.traceId], ["span", span.id], ["parent", span.parentId], ["trace state", span.traceState],
    ])),
    ...folded("JSON", [copier("Copy", JSON.stringify(span.raw, null, 2)), element("pre", "", JSON.stringify(span.raw, null, 2))]),
  ];
}

/** How long a span has been running; goes on if it is drawn again. */
export function soFar(span) {
  return element("span", "so-far", `running, ${ongoing(span.end - span.start)} so far`);
}

/** What the pane shows of the attempts of one call: what became of each, and the waits between them. */
export function attemptsDetails(item, { go }) {
  const rows = [
    ...item.attempts.map((one, index) => ({ at: one.start, one, number: index + 1 })),
    ...item.waits.map(([from, to]) => ({ at: from, wait: to - from })),
  ].sort((a, b) => a.at - b.at);
  const list = rows.map(({ one, number, wait }) => {
    if (!one) return element("tr", "muted", element("td"), element("td", "", "wait"), element("td", "", duration(wait)));
    const link = element("a", "", `attempt ${number}`);
    link.href = `?span=${one.id}`;
    link.addEventListener("click", (event) => {
      event.preventDefault();
      go(one);
    });
    const words = one.message || attribute(one, "error.type") || attribute(one, "http.response.status_code") || "";
    return element("tr", "", element("td", "", link), element("td", one.status === "error" ? "error" : "", words),
      element("td", "", duration(one.end - one.start)));
  });
  return [
    element("h2", "title", item.name || UNNAMED),
    element("p", "muted", chip(item.service),
      `${count(item.attempts.length, "attempt")} · ${duration(item.end - item.start)} · from +${duration(Math.max(0, item.start))}`),
    element("table", "attempts", element("tbody", "", ...list)),
  ];
}

/** What the pane shows of a log line that belongs to no span. */
export function logDetails(log) {
  return [element("h2", "title", "Log line"), element("p", "muted", chip(log.service), "of a span that has not come"), ...logOf(log)];
}

export function button(label, run, title = "") {
  const node = element("button", "", label);
  node.type = "button";
  if (title) node.title = title;
  node.addEventListener("click", run);
  return node;
}

/** A button that copies a text, and says so. */
export function copier(label, copied) {
  const node = button(label, async () => {
    try {
      await navigator.clipboard.writeText(typeof copied === "function" ? copied() : copied);
      node.textContent = "Copied";
    } catch {
      node.textContent = "Cannot copy";
    }
    setTimeout(() => { node.textContent = label; }, 1500);
  });
  return node;
}

function status(span) {
  const became = outcome(span);
  if (!span.message && !became) return [];
  const words = { refused: "refused: it never left the process", cancelled: "given up", failed: "failed" }[became];
  return [element("p", span.status === "error" ? "error" : "muted", [words, span.message].filter(Boolean).join(": "))];
}

function namespaces(heading, attributes, { searched = false } = {}) {
  if (!attributes.length) return [];
  const list = element("dl");
  for (const [namespace, found] of byNamespace(attributes)) {
    const described = convention(namespace);
    if (found.length > 1 && described) {
      const link = element("a", "", namespace);
      link.href = described;
      link.rel = "noopener noreferrer";
      link.title = "What the conventions say about these names";
      list.append(element("dt", "namespace", link), element("dd", "namespace"));
    }
    for (const { key, value } of found) list.append(...fact(key, value, searched));
  }
  return [...(heading ? [element("h3", "", heading)] : []), list];
}

function fact(key, value, searched) {
  const shown = textOf(value);
  const long = shown.length > LONG || shown.includes("\n") ? "long" : "";
  const dd = element("dd", long, element("span", "value", shown));
  const measure = unit(key, value);
  if (measure) dd.append(element("span", "muted", ` ${measure}`));
  const actions = element("span", "actions");
  if (searched) {
    const link = element("a", "", "find");
    link.href = search(key, value);
    link.title = `Find traces with this ${key}`;
    link.ariaLabel = link.title;
    actions.append(link);
  }
  const copy = copier("copy", shown);
  copy.ariaLabel = `Copy the value of ${key}`;
  actions.append(copy);
  dd.append(actions);
  return [element("dt", long, key), dd];
}

function factList(pairs) {
  const list = element("dl");
  for (const [key, value] of pairs) if (value) list.append(...fact(key, value, false));
  return [list];
}

function eventOf(event) {
  const heading = element("h3", event.name === "exception" ? "error" : "", event.name || UNNAMED,
    element("span", "muted", ` at +${duration(Math.max(0, event.at))}`));
  const lost = event.dropped ? [element("p", "muted", `${event.dropped} attributes dropped by its sender`)] : [];
  return [heading, ...namespaces("", event.attributes), ...lost];
}

function logOf(log) {
  const heading = element("h4", "", element("b", log.severityNumber >= 17 ? "error" : "", log.severity), " ", textOf(log.body),
    element("span", "muted", ` at +${duration(Math.max(0, log.at))}`));
  return [heading, ...namespaces("", log.attributes)];
}

function links(span, { trace, linking, linkedFrom, linkedTo, go }) {
  const here = (other) => {
    const link = element("a", "", `${other.service} ${other.name || UNNAMED}`);
    link.href = `?span=${other.id}`;
    link.addEventListener("click", (event) => {
      event.preventDefault();
      go(other);
    });
    return link;
  };
  const away = ({ traceId, spanId, stored, service, name }) => {
    const ids = `span ${spanId} of trace ${traceId}`;
    if (stored === false) return [element("span", "muted", `${ids}, which is not kept here`)];
    const link = element("a", "", service ? `${service} ${name || UNNAMED}` : ids);
    link.href = `/trace/${encodeURIComponent(traceId)}?span=${encodeURIComponent(spanId)}`;
    link.title = ids;
    return [link, service ? element("span", "muted", " in another trace") : ""];
  };
  const rows = span.links.flatMap((link) => {
    const other = link.traceId === trace.id && trace.spans.find((one) => one.id === link.spanId);
    const end = linkedTo.find((one) => one.traceId === link.traceId && one.spanId === link.spanId) ?? link;
    return [element("p", "", "to ", ...(other ? [here(other)] : away(end))), ...namespaces("", link.attributes)];
  });
  rows.push(...linking(span).map((other) => element("p", "", "from ", here(other))));
  const others = linkedFrom.filter((one) => one.linkedSpanId === span.id);
  rows.push(...others.map((one) => element("p", "", "from ", ...away(one))));
  return rows.length ? [element("h3", "", "Links"), ...rows] : [];
}

function folded(heading, children) {
  if (!children.length) return [];
  return [element("details", "", element("summary", "", heading), ...children)];
}
