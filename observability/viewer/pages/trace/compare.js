// Two traces beside each other as one tree, or one beside what is usual for its request.
import { UNNAMED, colour, count, duration, element, load, statusOf, time } from "../common.js";
import { condition } from "../query.js";
import { differences, merge } from "./merge.js";
import { tracesOf } from "./otlp.js";
import { attribute, grow, rootOf } from "./tree.js";

const MOST = 2000; // rows
const REASONS = 5;
const DEEPEST = 20; // levels that are indented
const $ = (id) => document.getElementById(id);
const { searchParams } = new URL(location);

async function traceOf(id) {
  const { traces: [trace] } = tracesOf([await load(`/api/recent/${encodeURIComponent(id)}/otlp`)]);
  return { trace, roots: grow(trace) };
}

const signed = (ns) => `${ns < 0 ? "−" : "+"}${duration(Math.abs(ns))}`;
const nameOf = (span) => [element("span", "service", span.service), " ", element("span", "operation", span.name || UNNAMED)];

function side(letter, { trace, roots }) {
  const root = rootOf(roots);
  const link = element("a", "", root.name || UNNAMED);
  link.href = `/trace/${trace.id}`;
  const errors = trace.spans.filter((span) => span.status === "error").length;
  return element("p", "", element("b", "", letter), link, " ", statusOf(attribute(root, "http.response.status_code")), " ",
    element("strong", "", duration(trace.length)), element("span", "muted", ` · ${count(trace.spans.length, "span")} · `),
    time(Number(trace.start / 1000n)),
    ...(errors ? [" ", element("span", "error", count(errors, "error"))] : []));
}

function verdict({ a, b, state, told }) {
  if (told) return told;
  if (state === "added" || state === "missing") return state;
  const [before, after] = [a.end - a.start, b.end - b.start];
  if (before === 0 || after === 0) return state === "same" ? "" : signed(after - before);
  const factor = Math.max(after / before, before / after);
  return state === "same" ? "" : `${factor < 100 ? factor.toPrecision(factor < 10 ? 2 : 3) : Math.round(factor)}× ${state}`;
}

function row(node, length) {
  const { a, b, level, state } = node;
  const span = b ?? a;
  const track = element("div", "track");
  for (const [one, name] of [[a, "bar a"], [b, "bar b"]]) {
    if (!one) continue;
    const bar = element("span", one.status === "error" ? `${name} failed` : name);
    bar.style.setProperty("left", `min(${(one.start / length) * 100}%, 100% - 2px)`);
    bar.style.setProperty("width", `max(2px, ${((one.end - one.start) / length) * 100}%)`);
    track.append(bar);
  }
  const took = (one) => (one ? duration(one.end - one.start) : "");
  const name = element("td", "", ...nameOf(span));
  name.title = `${span.service} ${span.name}`;
  const cells = [took(a), took(b), verdict(node), track].map((content) => element("td", "", content));
  const line = element("tr", state, name, ...cells);
  line.style.setProperty("--level", Math.min(level - 1, DEEPEST));
  line.style.setProperty("--colour", colour(span.service));
  return line;
}

/**
 * Show the tree.
 * @param {object[]} nodes Parents first, each with the spans `a` and `b`, its `level` and `state`, and what is `told` of it.
 * @param {{node: object, by: number}[]} reasons What makes the difference.
 * @param {Object<string, string>} words For each state, in the order in which they are counted.
 */
function show(nodes, reasons, words, length) {
  const counts = Object.groupBy(nodes, ({ state }) => state);
  $("counts").textContent = Object.entries(words).map(([state, word]) => `${counts[state]?.length ?? 0} ${word}`).join(" · ");
  $("why").querySelector("ol").replaceChildren(...reasons.map(({ node, by }) =>
    element("li", "", ...nameOf(node.b ?? node.a), " ", element("strong", "", signed(by)),
      element("span", "muted", node.a && node.b ? "" : ` ${words[node.state]}`))));
  const draw = () => {
    const wanted = $("only").checked ? nodes.filter(({ state }) => state !== "same") : nodes;
    $("tree").tBodies[0].replaceChildren(...wanted.slice(0, MOST).map((node) => row(node, length)));
    $("more").hidden = wanted.length <= MOST;
    $("more").textContent = `The first ${MOST} of ${wanted.length} rows.`;
  };
  $("only").addEventListener("change", draw);
  draw();
  for (const id of ["both", "filter", "tree"]) $(id).hidden = false;
  $("why").hidden = !reasons.length;
}

function showBoth(a, b) {
  const { nodes } = merge(a.roots, b.roots);
  $("both").replaceChildren(side("A", a), side("B", b));
  const words = { same: "alike", slower: "slower", faster: "faster", added: "added", missing: "missing" };
  show(nodes, differences(nodes, REASONS), words, Math.max(a.trace.length, b.trace.length));
  document.title = `${rootOf(a.roots).name || UNNAMED} compared · Clearspan`;
}

/** What the others are: how many, of when, and how long they took. */
function usualSide({ traces, complete, from, to, duration: took }) {
  const node = element("p", "", element("b", "", "Usual"), element("strong", "", took ? duration(took.p50) : "–"));
  if (took) node.append(element("span", "muted", ` in the middle of ${count(traces, "other")}, 95 % within ${duration(took.p95)} · `), time(from), " – ", time(to));
  if (!complete) node.append(element("span", "muted", " · there are more than could be looked at"));
  return node;
}

/** A place of the usual shape as a span, in the middle of where and how long it was. */
const usualSpan = ({ service, name, start, duration: { p50 } }) => ({ service, name, status: "unset", start, end: start + p50 });

function showUsual({ trace, roots }, usual) {
  const byId = new Map(trace.spans.map((span) => [span.id, span]));
  const nodes = usual.places.map((place) => ({
    a: place.duration && usualSpan(place),
    b: byId.get(place.span) ?? null,
    level: place.level,
    state: place.state,
    told: { added: "new", rare: `in ${place.traces} of ${usual.traces}`, missing: "missing" }[place.state],
    by: place.difference,
  })).filter(({ b, state }) => b || state === "missing"); // it may have grown between the two answers
  $("title").textContent = "Against usual";
  $("both").replaceChildren(usualSide(usual), side("This", { trace, roots }));
  document.title = `${rootOf(roots).name || UNNAMED} against usual · Clearspan`;
  if (!usual.places.length) {
    $("both").hidden = $("other").hidden = false;
    const few = `${usual.traces ? `Only ${count(usual.traces, "other")}` : "No other"} of this request`;
    $("ask").textContent = usual.complete ? `${few}: no usual shape yet.` : `${few} could be looked at in time: too few for a usual shape.`;
    return;
  }
  const least = trace.length / 100;
  const reasons = nodes.map((node) => ({ node, by: node.by })).filter(({ by }) => Math.abs(by) >= least)
    .sort((one, other) => Math.abs(other.by) - Math.abs(one.by)).slice(0, REASONS);
  const words = { same: "as usual", slower: "slower", faster: "faster", added: "new", rare: "rare", missing: "missing" };
  for (const [index, name] of ["Span", "Usual", "This", "Against usual", "Time, usual above"].entries())
    $("tree").tHead.rows[0].cells[index].textContent = name;
  show(nodes, reasons, words, Math.max(trace.length, ...nodes.map(({ a }) => a?.end ?? 0)));
}

/** Offer newer and older traces of the same request to compare one with. */
async function offer({ trace, roots }) {
  const root = rootOf(roots);
  $("both").replaceChildren(side("A", { trace, roots }));
  $("both").hidden = $("other").hidden = false;
  const q = [condition("service", root.service), condition("operation", root.name)].join(" ");
  const { traces } = await load(`/api/find?${new URLSearchParams({ limit: "50", q })}`);
  const others = traces.filter((one) => one.name === root.name && one.traceID !== trace.id);
  const usual = element("a", "", "what is usual");
  usual.href = `/compare?${new URLSearchParams({ a: trace.id, b: "usual" })}`;
  $("ask").replaceChildren(...(others.length ? ["Compare it with ", usual, ", or with"] : ["There is no other trace of this request to compare it with."]));
  $("choices").replaceChildren(...others.map((one) => {
    const link = element("a", "", duration(one.durationNano));
    link.href = `/compare?${new URLSearchParams({ a: trace.id, b: one.traceID })}`;
    return element("li", "", link, " ", statusOf(one.status), element("span", "muted", ` ${count(one.spans, "span")} `), time(one.startTime),
      ...(one.errors ? [" ", element("span", "error", count(one.errors, "error"))] : []));
  }));
}

try {
  const [a, b] = ["a", "b"].map((name) => searchParams.get(name));
  if (!a) throw new Error("the address names none: open one and choose Compare");
  if (b === "usual") showUsual(...(await Promise.all([traceOf(a), load(`/api/recent/${encodeURIComponent(a)}/usual`)])));
  else if (b) showBoth(...(await Promise.all([traceOf(a), traceOf(b)])));
  else await offer(await traceOf(a));
} catch (error) {
  $("title").textContent = `These traces cannot be compared: ${error.message}`;
}
