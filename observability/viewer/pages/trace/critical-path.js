// Which parts of which spans the trace's length is made of: had they been shorter, so would it have been.

import { isWait } from "./attempts.js";

/**
 * The algorithm of Jaeger's page (jaegertracing/jaeger-ui, TracePage/CriticalPath; before it Uber's CRISP): from a
 * span's end go back to the child that ended last before, whose own path takes the place of that time, then from its
 * start on to the next one. Children are cut where they reach beyond their parent.
 *
 * Consumers run by themselves, as do an event's wait and delivery, so that nobody waited for them; Jaeger leaves all
 * producers and consumers out.
 *
 * @returns {Map<string, [number, number][]>} By span id, the parts of it that are on the path, from the last one.
 */
export function criticalPath(roots) {
  const path = new Map();
  const pending = roots.map((root) => [root, root.start, root.end]);
  while (pending.length) {
    const [span, from, to] = pending.pop();
    const parts = [];
    let at = to;
    for (const child of awaited(span).sort((a, b) => b.end - a.end)) {
      const [start, end] = [Math.max(child.start, from), Math.min(child.end, to)];
      if (end <= start || end > at) continue;
      if (at > end) parts.push([end, at]);
      pending.push([child, start, end]);
      at = start;
    }
    if (at > from) parts.push([from, at]);
    if (parts.length) path.set(span.id, parts);
  }
  return path;
}

function awaited(span) {
  const outlives = (child) => span.kind === "producer" && child.end > span.end;
  return span.children.filter((child) => child.kind !== "consumer" && !isWait(child) && !outlives(child));
}

/** Nanoseconds of a span that are on the path. */
export const onPath = (path, span) => (path.get(span.id) ?? []).reduce((sum, [from, to]) => sum + to - from, 0);
