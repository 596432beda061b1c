// What keys do, in one table, which is also the help.
import { element } from "../common.js";

/**
 * @param {[string[], string, () => void][]} bindings Keys as `KeyboardEvent.key` has them, what they do, in words too.
 * @param {HTMLElement} panel Is filled with the help.
 */
export function bindKeys(bindings, panel) {
  const actions = new Map(bindings.flatMap(([keys, , run]) => keys.map((key) => [key, run])));
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const typing = event.target.closest?.("input, textarea, select");
    if (typing && event.key !== "Escape") return;
    // A focused button or link takes its own keys.
    if (event.target.closest?.("button, a, summary") && (event.key === "Enter" || event.key === " ")) return;
    const run = actions.get(event.key);
    if (!run) return;
    event.preventDefault();
    run(event);
  });
  const arrows = { ArrowDown: "↓", ArrowUp: "↑", ArrowLeft: "←", ArrowRight: "→" };
  const names = { ...arrows, Escape: "Esc", PageDown: "PgDn", PageUp: "PgUp" };
  const list = element("dl", "", ...bindings.flatMap(([keys, does]) => [
    element("dt", "", ...keys.flatMap((key, index) => [index ? " " : "", element("kbd", "", names[key] ?? key)])), element("dd", "", does),
  ]));
  panel.replaceChildren(element("h2", "title", "Keys"), list,
    element("p", "muted", "Ctrl and the wheel zoom where the pointer is, Shift and the wheel move along. Drag over the axis or the strip ",
      "above to zoom, double-click there to see everything again. Drop a file of OTLP JSON anywhere to open it."));
}
