// The spans of a trace as a tree, and what is odd about them.
import { noWord } from "./running.js";

/**
 * Give each span its `parent`, its `children` by their start, and its `marks`: what is odd, in words.
 * @returns {object[]} The roots: spans without a parent, those whose parent has not come, and one of each circle.
 */
export function grow(trace) {
  const known = new Map(trace.spans.map((span) => [span.id, span]));
  for (const span of trace.spans) Object.assign(span, { parent: null, children: [], marks: [] });
  for (const span of trace.spans) span.parent = known.get(span.parentId) ?? null;
  for (const span of trace.spans) {
    if (!leadsUp(span)) {
      span.parent = null;
      span.marks.push("is its own ancestor");
    }
  }
  const roots = [];
  for (const span of trace.spans) {
    (span.parent?.children ?? roots).push(span);
    span.marks.push(...oddities(span));
  }
  return roots.sort((a, b) => Boolean(a.parentId) - Boolean(b.parentId) || a.start - b.start);
}

/** The span that stands for the trace: its earliest root. */
export const rootOf = (roots) => roots.find((span) => !span.parentId) ?? roots[0];

/** Whether a span's ancestors end. Those that are known to do so are marked, so that each is walked once. */
function leadsUp(span) {
  const way = new Set();
  let at = span;
  while (at && !at.leadsUp && !way.has(at)) {
    way.add(at);
    at = at.parent;
  }
  if (at && way.has(at)) return false;
  for (const one of way) one.leadsUp = true;
  return true;
}

function oddities(span) {
  const marks = [];
  if (span.parentId && !span.parent && !span.marks.length) marks.push("its parent has not come");
  // A clock of another machine, most often: no span can begin before what has begun it.
  if (span.parent && span.start < span.parent.start) marks.push("starts before its parent: clock skew");
  if (span.unfinished && !span.running) marks.push(`has not ended${span.silent ? `, and ${noWord(span.silent)}` : ""}`);
  if (span.backwards) marks.push("ends before it starts");
  const dropped = Object.entries(span.dropped).filter(([, count]) => count > 0);
  if (dropped.length) marks.push(`dropped by its sender: ${dropped.map(([what, count]) => `${count} ${what}`).join(", ")}`);
  return marks;
}

/** A span's attribute; undefined if it has none of that name. */
export const attribute = (span, key) => span.attributes.find((one) => one.key === key)?.value;
