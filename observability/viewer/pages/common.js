// What both pages need. Text from telemetry only ever becomes text: nothing here parses HTML.

export function element(tag, className, ...children) {
  const node = document.createElement(tag);
  if (className) node.className = className;
  node.append(...children.map((child) => (child instanceof Node ? child : String(child))));
  return node;
}

/** Three significant digits and a unit, never rounded to 0. */
export function duration(us) {
  const [value, unit] = us >= 1e6 ? [us / 1e6, "s"] : us >= 1e3 ? [us / 1e3, "ms"] : [us, "µs"];
  return `${value >= 1000 ? Math.round(value) : Number(value.toPrecision(3))} ${unit}`;
}

// Okabe and Ito's colours, told apart by colour-blind readers; red stays for errors.
const COLOURS = ["#0072b2", "#009e73", "#e69f00", "#56b4e9", "#cc79a7", "#8c6bb1", "#6b8e23", "#a6761d"];

/** The same colour for a service on every page. */
export function colour(service) {
  let hash = 7;
  for (const character of service) hash = (hash * 31 + character.codePointAt(0)) % 1000003;
  return COLOURS[hash % COLOURS.length];
}

export function chip(service, text) {
  const node = element("span", "chip", text ?? service);
  node.style.setProperty("--colour", colour(service));
  return node;
}

const CLOCK = { hour: "2-digit", minute: "2-digit", second: "2-digit", fractionalSecondDigits: 3, hour12: false };

export function time(us) {
  const date = new Date(us / 1000);
  const node = element("time", "", date.toLocaleTimeString([], CLOCK));
  node.title = date.toString();
  return node;
}

export function tag(span, key) {
  return span.tags.find((one) => one.key === key)?.value;
}

export async function load(path) {
  const response = await fetch(path);
  const answer = await response.json();
  if (answer.errors) throw new Error(answer.errors[0].msg);
  return answer.data;
}

/** What a trace is called by: its first span without a parent among its spans. */
export function rootOf(trace) {
  const ids = new Set(trace.spans.map((span) => span.spanID));
  const orphan = (span) => !span.references.some((one) => one.refType === "CHILD_OF" && ids.has(one.spanID));
  return trace.spans.filter(orphan).sort((a, b) => a.startTime - b.startTime)[0] ?? trace.spans[0];
}

export function extent(trace) {
  const start = Math.min(...trace.spans.map((span) => span.startTime));
  return [start, Math.max(...trace.spans.map((span) => span.startTime + span.duration)) - start];
}
