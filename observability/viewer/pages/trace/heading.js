// What stands above the waterfall: the trace in one line, and its services.
import { UNNAMED, colour, count, duration, element, statusOf, time } from "../common.js";
import { button } from "./details.js";
import { ongoing } from "./running.js";
import { attribute, rootOf } from "./tree.js";

const $ = (id) => document.getElementById(id);

/** Put new nodes into a holder; the button that took the place of the one with the focus has it again. */
function replace(holder, ...nodes) {
  const focused = [...holder.querySelectorAll("button")].indexOf(document.activeElement);
  holder.replaceChildren(...nodes);
  holder.querySelectorAll("button")[focused]?.focus({ preventScroll: true });
}

/** Show how long the trace has taken. */
export function showLength(trace) {
  $("facts").querySelector("strong").textContent = (trace.spans.some((span) => span.running) ? ongoing : duration)(trace.length);
}

/** Show it; numbers lead to what they count by `jump`, services to their spans by `find`. */
export function heading(trace, roots, { jump, find }) {
  const root = rootOf(roots);
  const { spans } = trace;
  const isError = (span) => span.status === "error";
  const isOdd = (span) => span.marks.length > 0;
  const isRunning = (span) => Boolean(span.running);
  const [errors, odd, running] = [isError, isOdd, isRunning].map((condition) => spans.filter(condition).length);
  const leading = (className, text, condition) => {
    const node = button(text, () => jump(1, condition), "Go to the next one");
    node.className = className;
    return node;
  };
  document.title = `${root.name || UNNAMED} · Clearspan`;
  $("title").textContent = root.name || UNNAMED;
  $("title").title = root.name;
  const when = time(Number(trace.start / 1000n));
  when.title = `${when.title}, ${trace.start} ns since 1970`;
  replace($("facts"),
    statusOf(attribute(root, "http.response.status_code")),
    element("strong"),
    ...(running ? [leading("running", `${running} running`, isRunning)] : []),
    element("span", "muted", count(spans.length, "span")),
    when,
    ...(errors ? [leading("error", count(errors, "error"), isError)] : []),
    ...(odd ? [leading("odd", `⚠ ${odd} odd`, isOdd)] : []),
  );
  showLength(trace);
  const services = Map.groupBy(spans, (span) => span.service);
  replace($("services"), ...[...services].map(([service, found]) => {
    const failed = found.filter(isError).length;
    const node = button("", () => find(`service=${service}`), `${count(found.length, "span")}, ${count(failed, "error")}: find them`);
    node.className = "chip";
    node.append(element("bdi", "", service), ` ${found.length}`, ...(failed ? [element("span", "error", ` ${failed}`)] : []));
    node.style.setProperty("--colour", colour(service));
    return node;
  }));
}
