// The tree as the rows that are to be seen, one below the other.

import { shownChildren } from "./attempts.js";

/** What stands under a span or under attempts: what went wrong, its log lines, its children; made once. */
function childrenOf(item) {
  item.rows ??= item.type === "attempts" ? item.children : shownChildren(item);
  return item.rows;
}

function linesOf(item) {
  if (item.type !== "span") return [];
  item.lines ??= [...problems(item), ...item.logs];
  return item.lines;
}

/** Why a span failed, as a line of its own: its exceptions or, without any, its status. */
function problems(span) {
  if (span.status !== "error") return [];
  const value = (event, key) => event.attributes.find((one) => one.key === key)?.value;
  const exceptions = span.events.filter((event) => event.name === "exception");
  const shortType = (event) => String(value(event, "exception.type") ?? "").split(".").at(-1);
  const texts = exceptions.map((event) => [shortType(event), value(event, "exception.message")].filter(Boolean).join(": "));
  return [...new Set(texts.length ? texts : [span.message])].filter(Boolean).map((body) => ({ type: "problem", body, at: span.end }));
}

/**
 * @typedef {object} Row `item` is a span, attempts, a log line or a problem; `span` is the one that it belongs to;
 *     `level` counts from 1; `expanded` is undefined where nothing can be folded.
 *
 * @param {object[]} roots
 * @param {Set<string>} folded Ids of spans and attempts.
 * @param {{lines: boolean, loose: object[]}} options Whether log lines are shown; those that belong to no span.
 * @returns {Row[]}
 */
export function rowsOf(roots, folded, { lines, loose }) {
  const rows = [];
  const pending = roots.map((item, index) => [item, 1, index + 1, roots.length]).reverse();
  while (pending.length) {
    const [item, level, position, size] = pending.pop();
    const children = childrenOf(item);
    const texts = lines ? linesOf(item) : [];
    const below = children.length + texts.length;
    const expanded = below ? !folded.has(item.id) : undefined;
    rows.push({ item, span: item.type === "attempts" ? item.attempts.at(-1) : item, level, position, size, expanded });
    if (!expanded) continue;
    texts.forEach((line, index) => rows.push({ item: line, span: item, level: level + 1, position: index + 1, size: below }));
    for (let index = children.length - 1; index >= 0; index -= 1)
      pending.push([children[index], level + 1, texts.length + index + 1, below]);
  }
  if (lines) loose.forEach((line, index) => rows.push({ item: line, span: null, level: 1, position: index + 1, size: loose.length }));
  return rows;
}

/** Whether two items, of a trace as it was and as it is, are the same one. */
export function isSame(one, other) {
  if (!one || one.type !== other?.type) return false;
  if (one.id) return one.id === other.id;
  return one.type === "log" ? JSON.stringify(one.raw) === JSON.stringify(other.raw) : one.body === other.body && one.at === other.at;
}

/** Ids of all attempts: they are folded to begin with. */
export function attemptsOf(roots) {
  const ids = [];
  const pending = [...roots];
  while (pending.length) {
    const item = pending.pop();
    if (item.type === "attempts") ids.push(item.id);
    pending.push(...childrenOf(item));
  }
  return ids;
}

/** What has to be unfolded for a span to be seen. */
export function wayTo(span) {
  const ids = [];
  for (let at = span; at?.parent; at = at.parent) {
    const attempts = childrenOf(at.parent).find((item) => item.type === "attempts" && item.children.includes(at));
    if (attempts) ids.push(attempts.id);
    ids.push(at.parent.id);
  }
  return ids;
}

/** All spans in the order of their rows, whatever is folded. */
export function spansInOrder(roots) {
  const spans = [];
  const pending = roots.toReversed();
  while (pending.length) {
    const item = pending.pop();
    if (item.type === "span") spans.push(item);
    pending.push(...childrenOf(item).toReversed());
  }
  return spans;
}

/** Whether a text, in lower case, occurs anywhere in a span or in its log lines; `service=` asks for a service's spans. */
export function mentions(span, wanted) {
  if (wanted.startsWith("service=")) return span.service.toLowerCase() === wanted.slice("service=".length);
  span.text ??= JSON.stringify([span.service, span.raw, span.resource, span.logs.map((log) => log.raw)]).toLowerCase();
  return span.text.includes(wanted) || span.text.includes(JSON.stringify(wanted).slice(1, -1));
}
