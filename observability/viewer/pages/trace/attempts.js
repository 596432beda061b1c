// The attempts of one call as one row, and what became of each span. Names of telemetry: observability/telemetry.py.
import { attribute } from "./tree.js";

const REFUSALS = new Set(["BreakerOpen", "BulkheadFull", "DeadlineSpent"]);
const CANCELLED = /cancel|hedge_lost|abort|timed?_?out|DeadlineExceeded/i;

/** What became of a span: "refused" (it never left the process), "cancelled", "failed", or nothing of these. */
export function outcome(span) {
  const error = String(attribute(span, "error.type") ?? "");
  if (span.kind === "client" && REFUSALS.has(error)) return "refused";
  if (attribute(span, "clearspan.client.disconnected") === true || CANCELLED.test(error)) return "cancelled";
  return span.status === "error" ? "failed" : "";
}

/** Whether a span is time in which nothing is done: an event's in its outbox. */
export const isWait = (span) =>
  span.kind === "internal" && span.scope.name === "observability.events" && span.name.startsWith("wait ");

/**
 * A span's children as they are shown: the attempts of one call, or of one delivery with the waits before them, are one
 * item of type "attempts" with its own `children`.
 */
export function shownChildren(span) {
  if (span.kind === "producer") return delivery(span);
  const calls = new Map(); // the newest call of each sort
  const announced = announcements(span);
  const groups = new Map();
  for (const child of span.children) {
    if (child.kind !== "client") continue;
    const sort = JSON.stringify([child.service, child.name, peer(child)]);
    const before = calls.get(sort);
    const number = Number(attribute(child, "http.request.resend_count") ?? 0) || announced(child);
    if (before && number > before.number) {
      before.attempts.push(child);
      before.number = number;
      groups.set(child, before);
    } else {
      const call = { attempts: [child], number };
      calls.set(sort, call);
      groups.set(child, call);
    }
  }
  return span.children.flatMap((child) => {
    const attempts = groups.get(child)?.attempts ?? [];
    if (attempts.length < 2) return [child];
    return child === attempts[0] ? [group(span, attempts, attempts)] : [];
  });
}

const peer = (span) => attribute(span, "clearspan.peer") ?? `${attribute(span, "server.address")}:${attribute(span, "server.port")}`;

/** Tells which attempt a refused span is, which has no count: the one that the last retry before it announced. */
function announcements(span) {
  const retries = span.events.filter(({ name }) => name === "clearspan.retry" || name === "clearspan.hedge").map((event) => {
    const value = (key) => event.attributes.find((one) => one.key === key)?.value;
    return { at: event.at, peer: value("clearspan.peer"), attempt: Number(value("clearspan.attempt")) };
  });
  const used = new Set();
  return (child) => {
    if (outcome(child) !== "refused") return 0;
    const retry = retries.findLast((one) => one.at <= child.start && one.peer === peer(child) && !used.has(one));
    if (!retry) return 0;
    used.add(retry);
    return retry.attempt;
  };
}

function delivery(span) {
  const waits = span.children.filter(isWait);
  const sends = span.children.filter((child) => child.kind === "client" && attribute(child, "messaging.operation.type") === "send");
  if (!sends.length || sends.length + waits.length < 2) return span.children;
  const members = span.children.filter((child) => waits.includes(child) || sends.includes(child));
  return span.children.flatMap((child) => {
    if (!members.includes(child)) return [child];
    return child === members[0] ? [group(span, sends, members)] : [];
  });
}

/** One item for attempts; `waits` are the times between its members in which none of them was under way. */
function group(parent, attempts, members) {
  const last = attempts.reduce((latest, one) => (one.end >= latest.end ? one : latest));
  const start = Math.min(...members.map((one) => one.start));
  const busy = attempts.map((one) => [one.start, one.end]);
  return {
    type: "attempts",
    id: `attempts-${members[0].id}`,
    name: attempts[0].name,
    service: attempts[0].service,
    parent,
    start,
    end: last.end,
    attempts,
    waits: between(busy, start, last.end),
    children: members,
  };
}

/** When the wait of a message for its consumer began: after its producer, or after it was consumed before; or null. */
export function waitedSince(span) {
  if (span.kind !== "consumer" || span.parent?.kind !== "producer") return null;
  const like = (one) => one.kind === "consumer" && one.name === span.name && one.service === span.service;
  const before = span.parent.children.filter((one) => like(one) && one.end <= span.start);
  const since = Math.max(span.parent.end, ...before.map((one) => one.end));
  return since < span.start ? since : null;
}

/** The parts of a time in which none of the intervals is. */
export function between(intervals, from, to) {
  const free = [];
  let at = from;
  for (const [start, end] of intervals.toSorted((a, b) => a[0] - b[0])) {
    if (start > at) free.push([at, Math.min(start, to)]);
    at = Math.max(at, end);
    if (at >= to) break;
  }
  if (at < to) free.push([at, to]);
  return free;
}

/** The times of a trace in which nothing is done anywhere. */
export const idle = (trace) =>
  between(trace.spans.filter((span) => !isWait(span)).map((span) => [span.start, span.end]), 0, trace.length);
