// What both pages need. Text from telemetry only ever becomes text: nothing here parses HTML.

export const UNNAMED = "(no name)";

export function element(tag, className, ...children) {
  const node = document.createElement(tag);
  if (className) node.className = className;
  node.append(...children.map((child) => (child instanceof Node ? child : String(child))));
  return node;
}

/** Nanoseconds with three significant digits and a unit, never rounded to 0. */
export function duration(ns) {
  if (ns < 1000) return `${ns} ns`;
  // What rounds to 1000 of a unit is 1.00 of the next.
  const [unit, size] = [["µs", 1e3], ["ms", 1e6]].find(([, one]) => ns / one < 999.5) ?? ["s", 1e9];
  const value = ns / size;
  return `${value >= 999.5 ? Math.round(value) : value.toPrecision(3)} ${unit}`;
}

// Okabe and Ito's colours, told apart by colour-blind readers; red stays for errors.
const COLOURS = ["#0072b2", "#009e73", "#e69f00", "#56b4e9", "#cc79a7", "#8c6bb1", "#6b8e23", "#a6761d"];

/** The same colour for a service on every page. */
export function colour(service) {
  let hash = 2166136261; // FNV-1a
  for (const character of service) hash = Math.imul(hash ^ character.codePointAt(0), 16777619) >>> 0;
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

/** "1 error", "2 errors". */
export function count(number, noun) {
  return `${number} ${noun}${number === 1 ? "" : "s"}`;
}

/** An HTTP status, red from 500 on; nothing if there is none. */
export function statusOf(status) {
  return status == null ? "" : element("span", status >= 500 ? "error" : "muted", status);
}

export async function load(path, options) {
  const response = await fetch(path, options);
  const answer = await response.json();
  if (!response.ok) throw Object.assign(new Error(answer.errors[0].msg), { status: response.status });
  return answer;
}
