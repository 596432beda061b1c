// Two traces as one tree: what both have, what only one has, and what took longer.
import { between } from "./attempts.js";

/** A span is slower if it took this much longer, and by more than this share of the longer trace. */
const FACTOR = 1.2;
const SHARE = 0.01;

/**
 * Merge two trees of spans. Two spans are the same if their parents are and they have the same service, operation and
 * position among those of their parent that have both the same.
 *
 * @returns {{nodes: object[], added: number, missing: number, slower: number, faster: number, same: number}} The nodes,
 *     parents first, and how many are in which state: each has the spans `a` and `b`, of which one may be null, its
 *     `level` from 1, and its `state`.
 */
export function merge(rootsA, rootsB) {
  const least = SHARE * Math.max(total(rootsA), total(rootsB));
  const nodes = [];
  const counts = { added: 0, missing: 0, slower: 0, faster: 0, same: 0 };
  const pending = pairs(rootsA, rootsB).map((pair) => [pair, 1]).reverse();
  while (pending.length) {
    const [[a, b], level] = pending.pop();
    const state = !a ? "added" : !b ? "missing" : compared(length(a), length(b), least);
    counts[state] += 1;
    nodes.push({ a, b, level, state });
    for (const pair of pairs(a?.children ?? [], b?.children ?? []).reverse()) pending.push([pair, level + 1]);
  }
  return { nodes, ...counts };
}

/** Spans of one parent in each trace, two by two, by when they began after their parents. */
function pairs(as, bs) {
  const byKey = new Map();
  for (const span of bs) {
    const key = keyOf(span);
    byKey.set(key, [...(byKey.get(key) ?? []), span]);
  }
  const found = as.map((a) => [a, byKey.get(keyOf(a))?.shift() ?? null]);
  for (const left of byKey.values()) for (const b of left) found.push([null, b]);
  const begin = ([a, b]) => (a ? a.start - (a.parent?.start ?? a.start) : b.start - (b.parent?.start ?? b.start));
  return found.sort((one, other) => begin(one) - begin(other));
}

const keyOf = (span) => JSON.stringify([span.service, span.name, span.kind]);
const length = (span) => span.end - span.start;
const total = (roots) => roots.reduce((most, span) => Math.max(most, span.end), 1);

function compared(before, after, least) {
  if (Math.abs(after - before) < least) return "same";
  if (after > before * FACTOR) return "slower";
  return before > after * FACTOR ? "faster" : "same";
}

/** Nanoseconds of a span in which none of its children is at work. */
export function ownTime(span) {
  const own = between(span.children.map((child) => [child.start, child.end]), span.start, span.end);
  return own.reduce((sum, [from, to]) => sum + to - from, 0);
}

/**
 * What makes the difference: the nodes whose own time changed most, that of their children left out.
 * @returns {{node: object, by: number}[]} In nanoseconds, more in the second trace is positive; the largest first.
 */
export function differences(nodes, most) {
  return nodes
    .map((node) => ({ node, by: (node.b ? ownTime(node.b) : 0) - (node.a ? ownTime(node.a) : 0) }))
    .filter(({ by }) => by !== 0)
    .sort((one, other) => Math.abs(other.by) - Math.abs(one.by))
    .slice(0, most);
}
