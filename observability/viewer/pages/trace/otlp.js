// OTLP JSON as the traces that the pages draw: of the viewer's own answers, of files, of other programs' files.
// https://opentelemetry.io/docs/specs/otlp/#json-protobuf-encoding

export const MAX_SPANS = 20_000; // of one trace; the viewer keeps no more either
const MAX_TRACES = 1000;
const MAX_DEPTH = 16;
const KINDS = ["unspecified", "internal", "server", "client", "producer", "consumer"];
const STATUSES = ["unset", "ok", "error"];

/**
 * @typedef {{key: string, value: unknown}} Attribute
 * @typedef {object} Span Times are nanoseconds from the trace's start.
 * @typedef {object} Trace `start` is nanoseconds since 1970, exact.
 */

/** The JSON values of a file: one, or one on each line as the collector's file exporter writes them. */
export function documents(text) {
  try {
    const whole = JSON.parse(text);
    return Array.isArray(whole) ? whole : [whole];
  } catch {
    return text.split("\n").filter((line) => line.trim()).map((line, index) => {
      try {
        return JSON.parse(line);
      } catch {
        throw new Error(`line ${index + 1} is no JSON`);
      }
    });
  }
}

/**
 * The traces in OTLP JSON, by their start, with their logs.
 * @returns {{traces: Trace[], leftOut: number}} `leftOut` counts spans beyond the bounds, and those without ids.
 */
export function tracesOf(values) {
  const traces = new Map();
  let leftOut = 0;
  const traceOf = (id) => {
    if (!traces.has(id) && traces.size < MAX_TRACES) traces.set(id, { id, spans: [], logs: [] });
    return traces.get(id);
  };
  for (const { item: raw, resource, service, scope } of items(values, "resourceSpans", "scopeSpans", "spans")) {
    const id = hex(raw.traceId, 32);
    const trace = id && hex(raw.spanId, 16) && traceOf(id);
    if (!trace || trace.spans.length >= MAX_SPANS) leftOut += 1;
    else trace.spans.push({ raw, resource, service, scope });
  }
  for (const { item: raw, service } of items(values, "resourceLogs", "scopeLogs", "logRecords")) {
    const trace = traces.get(hex(raw.traceId, 32));
    if (trace && trace.logs.length < MAX_SPANS) trace.logs.push({ raw, service });
  }
  const result = [...traces.values()].filter((trace) => trace.spans.length).map(finished);
  return { traces: result.sort((a, b) => Number(a.start - b.start)), leftOut };
}

function* items(values, resources, scopes, leaves) {
  for (const value of values) {
    for (const ofResource of list(value?.[resources])) {
      const resource = attributes(ofResource.resource?.attributes);
      const name = resource.find(({ key }) => key === "service.name")?.value;
      const service = name ? String(name) : "unknown_service";
      for (const ofScope of list(ofResource[scopes]))
        for (const item of list(ofScope[leaves])) yield { item, resource, service, scope: ofScope.scope ?? {} };
    }
  }
}

function finished({ id, spans, logs }) {
  const starts = spans.map(({ raw }) => nanoseconds(raw.startTimeUnixNano));
  // A span without a start does not make the trace begin in 1970.
  const start = starts.reduce((least, one) => (one && (!least || one < least) ? one : least), 0n);
  const from = (time) => Number(nanoseconds(time) - start);
  const made = new Map();
  spans.forEach(({ raw, resource, service, scope }, index) => {
    const spanId = hex(raw.spanId, 16);
    if (made.has(spanId)) return; // what was sent twice is one
    const begin = starts[index] ? Number(starts[index] - start) : 0;
    const end = nanoseconds(raw.endTimeUnixNano) ? from(raw.endTimeUnixNano) : null;
    made.set(spanId, {
      type: "span",
      id: spanId,
      traceId: id,
      parentId: hex(raw.parentSpanId, 16),
      name: text(raw.name),
      kind: named(raw.kind, KINDS, "SPAN_KIND_"),
      service,
      resource,
      scope: { name: text(scope.name), version: text(scope.version) },
      start: begin,
      end: Math.max(begin, end ?? begin),
      backwards: end !== null && end < begin ? end - begin : 0,
      unfinished: end === null,
      status: named(raw.status?.code, STATUSES, "STATUS_CODE_"),
      message: text(raw.status?.message),
      attributes: attributes(raw.attributes),
      events: list(raw.events).map((event) => ({
        at: from(event.timeUnixNano),
        name: text(event.name),
        attributes: attributes(event.attributes),
        dropped: Number(event.droppedAttributesCount ?? 0),
      })),
      links: list(raw.links).map((link) => ({
        traceId: hex(link.traceId, 32) || text(link.traceId),
        spanId: hex(link.spanId, 16) || text(link.spanId),
        attributes: attributes(link.attributes),
      })),
      traceState: text(raw.traceState),
      dropped: {
        attributes: Number(raw.droppedAttributesCount ?? 0),
        events: Number(raw.droppedEventsCount ?? 0),
        links: Number(raw.droppedLinksCount ?? 0),
      },
      logs: [],
      raw,
    });
  });
  const loose = []; // of spans that have not come
  for (const { raw, service } of logs) {
    const at = nanoseconds(raw.timeUnixNano) || nanoseconds(raw.observedTimeUnixNano);
    const log = {
      type: "log",
      at: at ? Number(at - start) : 0,
      service,
      severity: text(raw.severityText),
      severityNumber: Number(raw.severityNumber ?? 0),
      body: raw.body ? valueOf(raw.body) : "",
      attributes: attributes(raw.attributes),
      spanId: hex(raw.spanId, 16),
      raw,
    };
    (made.get(log.spanId)?.logs ?? loose).push(log);
  }
  for (const span of made.values()) span.logs.sort((a, b) => a.at - b.at);
  const all = [...made.values()].sort((a, b) => a.start - b.start || b.end - a.end);
  const length = all.reduce((most, span) => Math.max(most, span.end), 1);
  return { id, start, length, spans: all, loose };
}

/** The value of an attribute, without what OTLP says about its type. */
export function valueOf(value, depth = 0) {
  if (depth > MAX_DEPTH) return "…";
  if (value == null || typeof value !== "object") return "";
  if ("stringValue" in value) return text(value.stringValue);
  if ("boolValue" in value) return Boolean(value.boolValue);
  if ("intValue" in value) {
    const number = Number(value.intValue);
    return Number.isSafeInteger(number) ? number : String(value.intValue);
  }
  if ("doubleValue" in value) return typeof value.doubleValue === "number" ? value.doubleValue : String(value.doubleValue);
  if ("bytesValue" in value) return text(value.bytesValue);
  if ("arrayValue" in value) return list(value.arrayValue?.values).map((one) => valueOf(one, depth + 1));
  if ("kvlistValue" in value)
    return Object.fromEntries(list(value.kvlistValue?.values).map((one) => [text(one.key), valueOf(one.value, depth + 1)]));
  return "";
}

const list = (value) => (Array.isArray(value) ? value.filter((one) => one && typeof one === "object") : []);
const text = (value) => (value == null ? "" : String(value));
const attributes = (found) => list(found).map((one) => ({ key: text(one?.key), value: valueOf(one?.value) }));
const hex = (value, digits) => {
  const id = text(value).toLowerCase();
  return id.length === digits && /^[0-9a-f]*[1-9a-f][0-9a-f]*$/.test(id) ? id : "";
};
const named = (value, names, prefix) => (names[value] ?? text(value).replace(prefix, "").toLowerCase()) || names[0];

function nanoseconds(value) {
  const digits = text(value);
  return /^\d{1,20}$/.test(digits) ? BigInt(digits) : 0n;
}
