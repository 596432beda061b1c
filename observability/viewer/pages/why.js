// What sets some of the listed traces apart: the attributes that they have more often than the rest.

import { count, element, load } from "./common.js";
import { percent, shortTime } from "./chart.js";
import { condition } from "./query.js";

const FEWEST = 5; // as the viewer has it
const SIDES = {
  errors: ["with errors", "without"],
  query: ["that meet the query", "that do not"],
  box: ["in the box", "others"],
};

/** What of the address it is: `why` says which traces, and of a box where it is and among which it was drawn. */
export const WHY = ["why", "from", "to", "shortest", "longest", "since", "until"];

/** The box that is meant, as numbers; undefined if none is. */
export function boxOf({ why, from, to, shortest, longest }) {
  if (why !== "box") return undefined;
  return { from: Number(from), to: Number(to), shortest: Number(shortest ?? 0), longest: longest === undefined ? Infinity : Number(longest) };
}

/**
 * @param {HTMLElement} holder
 * @param {{add: (text: string, isMore: boolean) => string, close: () => void}} told
 *   `add` gives the address of a query with one more condition or, if it is no more, of that condition alone.
 */
export function why(holder, { add, close }) {
  let controller = new AbortController();

  function link({ key, value, adds }) {
    const text = condition(key, value);
    const node = element("a", "value", `${key}=${value}`);
    node.href = add(text, adds);
    node.title = adds ? `Narrow to traces with ${text}` : `Show traces with ${text}. It stands alone, since no span has it and meets the query`;
    return node;
  }

  function share(name, traces, all) {
    const bar = element("span", `bar ${name}`);
    bar.style.setProperty("width", `${(traces / all) * 100}%`);
    const node = element("td", "share", element("span", "figure", percent(traces, all)), element("span", "extent", bar));
    node.title = `${traces} of ${all}`;
    return node;
  }

  function row(one, { selected, rest }) {
    const name = element("td", "", link(one));
    if (one.many) {
      const all = element("p", "", ...one.alike.flatMap((other) => [link(other), " "]), one.many > one.alike.length ? `and ${one.many - one.alike.length} more` : "");
      name.append(element("details", "", element("summary", "", `and ${one.many} with it`), all));
    }
    return element("tr", "", name, share("chosen", one.selected, selected), share("rest", one.rest, rest));
  }

  function answer(told, [these, those], span) {
    const { selected, rest, complete, attributes } = told;
    const sizes = element("p", "muted", `${count(selected, "trace")} ${these} against ${rest} ${those}${span}${complete ? "" : "; there are more"}.`);
    if (Math.min(selected, rest) < FEWEST) return [sizes, element("p", "", `Too few to tell: it takes ${FEWEST} on either side.`)];
    if (!attributes.length) return [sizes, element("p", "", "Nothing sets them apart: no value is much more frequent among them.")];
    const heads = ["Attribute", `Of those ${these}`, `Of ${those === "others" ? "the others" : `those ${those}`}`].map((name) => Object.assign(element("th", "", name), { scope: "col" }));
    return [sizes, element("table", "", element("thead", "", element("tr", "", ...heads)), element("tbody", "", ...attributes.map((one) => row(one, told))))];
  }

  /** Show what is asked for: of a query and a time, with what of the address is in `asked`. */
  return async ({ q, start, end, asked }) => {
    controller.abort();
    controller = new AbortController();
    const sides = SIDES[asked.why];
    holder.hidden = !sides;
    if (!sides) return;
    const shut = Object.assign(element("button", "close", "×"), { type: "button", title: "Close" });
    shut.setAttribute("aria-label", "Close");
    shut.addEventListener("click", close);
    const heading = element("h2", "", "What sets these apart");
    const { why: select, since, until, ...box } = asked;
    const [from, to] = [since ?? start, until ?? end];
    const span = from && to ? `, ${shortTime(Number(from), to - from)} – ${shortTime(Number(to), to - from)}` : "";
    try {
      const query = new URLSearchParams({ q, select, ...box, ...(from && { start: from }), ...(to && { end: to }) });
      const told = await load(`/api/why?${query}`, { signal: controller.signal });
      holder.replaceChildren(shut, heading, ...answer(told, sides, span));
    } catch (error) {
      if (error.name !== "AbortError") holder.replaceChildren(shut, heading, element("p", "error", error.message));
    }
  };
}
