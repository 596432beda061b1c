// The waterfall: of all rows only those in sight are elements, so that any number of them scrolls alike.
import { UNNAMED, colour, duration, element } from "../common.js";
import { isWait, outcome, waitedSince } from "./attempts.js";
import { textOf } from "./attributes.js";
import { clamped, ticks, zoomed } from "./axis.js";

const AHEAD = 12; // rows beyond either edge
const DEEPEST = 20; // levels that are indented, so that the names of deeper ones stay in sight
const WHEEL = 0.002; // of a factor, for each pixel of the wheel

export class Waterfall {
  #scroller;
  #axis;
  #body;
  #backdrop;
  #drawn = new Map();
  #state;
  #asked = false;

  /**
   * @param {HTMLElement} scroller Is made the grid.
   * @param {{choose: (row) => void, fold: (row) => void, look: (view) => void}} actions What clicks and drags ask for.
   */
  constructor(scroller, { choose, fold, look }) {
    this.#scroller = scroller;
    const heading = (name, ...children) => {
      const cell = element("div", name, ...children);
      cell.role = "columnheader";
      return cell;
    };
    this.#axis = heading("track axis");
    this.#axis.ariaLabel = "Time from the start of the trace";
    const head = element("div", "head", heading("name", "Span"), heading("number", "Duration"), this.#axis);
    head.role = "row";
    head.ariaRowIndex = "1";
    const headings = element("div", "headings", head);
    headings.role = "rowgroup";
    this.#backdrop = element("div", "track");
    const backdrop = element("div", "backdrop", element("div"), element("div"), this.#backdrop);
    backdrop.ariaHidden = "true";
    this.#body = element("div", "rows", backdrop);
    this.#body.role = "rowgroup";
    scroller.replaceChildren(headings, this.#body);
    scroller.addEventListener("scroll", () => this.#soon(), { passive: true });
    new ResizeObserver(() => this.#state && this.show(this.#state)).observe(scroller);
    this.#body.addEventListener("click", (event) => {
      const row = this.#state.rows[event.target.closest(".row")?.dataset.index];
      if (!row) return;
      if (event.target.closest(".fold")) fold(row);
      else choose(row);
    });
    this.#body.addEventListener("dblclick", (event) => {
      const row = this.#state.rows[event.target.closest(".row")?.dataset.index];
      if (row && !event.target.closest(".fold")) fold(row);
    });
    this.#wheel(look);
    this.#drag(look);
  }

  get rowHeight() {
    return Number.parseFloat(getComputedStyle(this.#scroller).getPropertyValue("--row")) || 20;
  }

  /** Draw a state: its rows, view, critical path, what is chosen and what was found. */
  show(state) {
    this.#state = state;
    this.#body.style.height = `${state.rows.length * this.rowHeight}px`;
    this.#scroller.ariaRowCount = String(state.rows.length + 1);
    for (const node of this.#drawn.values()) node.remove();
    this.#drawn.clear();
    this.#drawAxis();
    this.#draw();
  }

  /** Scroll as little as it takes to see a row. */
  reveal(index) {
    const height = this.rowHeight;
    const head = this.#scroller.firstChild.offsetHeight;
    const [top, room] = [index * height, this.#scroller.clientHeight - head];
    if (top < this.#scroller.scrollTop) this.#scroller.scrollTop = top;
    else if (top + height > this.#scroller.scrollTop + room) this.#scroller.scrollTop = top + height - room;
    this.#draw();
  }

  /** How many rows are in sight at once. */
  get page() {
    return Math.max(1, Math.floor(this.#scroller.clientHeight / this.rowHeight) - 2);
  }

  #soon() {
    if (this.#asked) return;
    this.#asked = true;
    requestAnimationFrame(() => {
      this.#asked = false;
      this.#draw();
    });
  }

  #draw() {
    const { rows } = this.#state;
    const height = this.rowHeight;
    const first = Math.max(0, Math.floor(this.#scroller.scrollTop / height) - AHEAD);
    const last = Math.min(rows.length, Math.ceil((this.#scroller.scrollTop + this.#scroller.clientHeight) / height) + AHEAD);
    for (const [index, node] of this.#drawn) {
      if (index >= first && index < last) continue;
      node.remove();
      this.#drawn.delete(index);
    }
    const fresh = [];
    for (let index = first; index < last; index += 1) {
      if (this.#drawn.has(index)) continue;
      const node = this.#row(rows[index], index);
      node.style.transform = `translateY(${index * height}px)`;
      this.#drawn.set(index, node);
      fresh.push(node);
    }
    this.#body.append(...fresh);
    const chosen = this.#drawn.get(this.#state.chosen);
    if (chosen) this.#scroller.setAttribute("aria-activedescendant", chosen.id);
    else this.#scroller.removeAttribute("aria-activedescendant");
  }

  #row(row, index) {
    const { item, span } = row;
    const { chosen, found } = this.#state;
    const line = item.type === "log" || item.type === "problem";
    const cells = line ? this.#lineCells(row) : this.#spanCells(row);
    for (const cell of cells) cell.role = "gridcell";
    const node = element("div", `row ${item.type}`, ...cells);
    node.id = `row-${index}`;
    node.role = "row";
    node.dataset.index = index;
    node.ariaRowIndex = String(index + 2);
    node.ariaLevel = String(row.level);
    node.ariaSetSize = String(row.size);
    node.ariaPosInSet = String(row.position);
    if (row.expanded !== undefined) node.ariaExpanded = String(row.expanded);
    node.ariaSelected = String(index === chosen);
    if (found && span && !found.has(span.id)) node.classList.add("other");
    node.style.setProperty("--level", Math.min(row.level - 1, DEEPEST));
    const service = span?.service ?? item.service;
    if (service) node.style.setProperty("--colour", colour(service));
    return node;
  }

  #lineCells({ item }) {
    const error = item.type === "problem" || item.severityNumber >= 17;
    const label = item.type === "problem" ? "failed" : item.severity || "log";
    const text = element("span", "text", textOf(item.body));
    const cell = element("div", "name", element("b", error ? "error" : "", label), " ", text);
    cell.title = textOf(item.body).slice(0, 1000);
    cell.ariaColSpan = "3";
    return [cell];
  }

  #spanCells(row) {
    const { item, expanded } = row;
    const group = item.type === "attempts";
    const fold = element("span", "fold");
    fold.ariaHidden = "true";
    if (expanded !== undefined) fold.classList.add(expanded ? "open" : "shut");
    const name = element("div", "name", fold, element("span", "service", item.service), " ", element("span", "operation", item.name || UNNAMED));
    name.title = `${item.service} ${item.name}`;
    if (row.span.status === "error") name.classList.add("failed");
    if (item.parent?.service === item.service) name.classList.add("same");
    if (group && item.attempts.length > 1) name.append(element("span", "badge", `${item.attempts.length} attempts`));
    if (expanded === false && !group) name.append(element("span", "badge", `+${item.below}`));
    const marks = group ? item.attempts.flatMap((one) => one.marks) : item.marks;
    if (marks.length) {
      const mark = element("span", "mark", "⚠");
      mark.title = marks.join("; ");
      mark.role = "img";
      mark.ariaLabel = mark.title;
      name.append(mark);
    }
    const unfinished = !group && item.unfinished;
    const number = element("div", "number", unfinished ? "…" : duration(item.end - item.start));
    const track = element("div", "track");
    track.ariaLabel = this.#spoken(row);
    this.#bars(track, item, group);
    return [name, number, track];
  }

  #spoken({ item, span }) {
    const became = outcome(span);
    const words = [item.start > 0 ? `from +${duration(item.start)}` : "from the start"];
    if (became) words.push(became);
    if (item.type === "attempts") words.push(`${item.attempts.length} attempts`);
    if (this.#state.path?.has(item.id)) words.push("on the critical path");
    return words.join(", ");
  }

  #percent(at) {
    const [from, to] = this.#state.view;
    return ((at - from) / (to - from)) * 100;
  }

  /** A part of a line from one time to another, or nothing if it is not in view. */
  #part(className, start, end, { thinnest = "2px" } = {}) {
    const [left, right] = [this.#percent(start), this.#percent(end)];
    if (right < 0 || left > 100) return null;
    const node = element("span", className);
    // Bars that go far beyond the view are cut, since browsers lose precision in very wide elements.
    const [from, to] = [Math.max(-1, left), Math.min(101, right)];
    node.style.setProperty("left", `min(${from}%, 100% - ${thinnest})`);
    node.style.setProperty("width", `max(${to - from}%, ${thinnest})`);
    return node;
  }

  #bars(track, item, group) {
    const add = (...nodes) => track.append(...nodes.filter(Boolean));
    if (group) {
      for (const [from, to] of item.waits) add(this.#part("bar wait", from, to, { thinnest: "0px" }));
      for (const one of item.attempts) add(this.#bar(one));
    } else {
      const since = waitedSince(item);
      if (since !== null) add(this.#part("bridge", since, item.start, { thinnest: "0px" }));
      add(this.#bar(item));
    }
    const spans = group ? item.attempts : [item];
    if (this.#state.path)
      for (const span of spans) for (const [from, to] of this.#state.path.get(span.id) ?? []) add(this.#part("critical", from, to, { thinnest: "1px" }));
    for (const span of spans) {
      for (const event of span.events) {
        const tick = this.#part(event.name === "exception" ? "event failed" : "event", event.at, event.at, { thinnest: "1px" });
        if (tick) tick.title = `${event.name} at +${duration(Math.max(0, event.at))}`;
        add(tick);
      }
    }
    if (!track.childElementCount) track.append(element("span", this.#percent(item.end) < 0 ? "beyond before" : "beyond after"));
  }

  #bar(span) {
    const became = outcome(span);
    const bar = this.#part(isWait(span) ? "bar wait" : `bar ${became}`, span.start, span.end, { thinnest: became === "refused" ? "8px" : "2px" });
    if (bar && span.status === "error") bar.classList.add("failed");
    if (bar && span.unfinished) bar.classList.add("unfinished");
    return bar;
  }

  #drawAxis() {
    const [from, to] = this.#state.view;
    const marks = ticks(from, to, Math.max(2, this.#axis.clientWidth / 90));
    const at = (node, time) => {
      node.style.setProperty("left", `${this.#percent(time)}%`);
      return node;
    };
    this.#axis.replaceChildren(...marks.map((mark) => at(element("span", this.#percent(mark.at) > 92 ? "tick last" : "tick", mark.label), mark.at)));
    const bands = this.#state.idle.map(([start, end]) => this.#part("idle", start, end, { thinnest: "0px" })).filter(Boolean);
    this.#backdrop.replaceChildren(...bands, ...marks.map((mark) => at(element("span", "rule"), mark.at)));
  }

  #timeAt(clientX) {
    const { left, width } = this.#axis.getBoundingClientRect();
    const [from, to] = this.#state.view;
    return from + ((clientX - left) / width) * (to - from);
  }

  #wheel(look) {
    this.#scroller.addEventListener("wheel", (event) => {
      const { view, trace } = this.#state;
      const sideways = event.shiftKey ? event.deltaY : event.deltaX;
      if (event.ctrlKey) look(zoomed(view, this.#timeAt(event.clientX), 1 + Math.max(-0.5, Math.min(1, event.deltaY * WHEEL)), trace.length));
      else if (sideways) {
        const by = (sideways / this.#axis.clientWidth) * (view[1] - view[0]);
        look(clamped([view[0] + by, view[1] + by], trace.length));
      } else return;
      event.preventDefault();
    }, { passive: false });
  }

  /** A part of the axis that is drawn over becomes the view. */
  #drag(look) {
    this.#axis.addEventListener("pointerdown", (down) => {
      const from = this.#timeAt(down.clientX);
      const brush = element("span", "brush");
      this.#axis.setPointerCapture(down.pointerId);
      this.#axis.append(brush);
      const ends = (event) => [from, this.#timeAt(event.clientX)].sort((a, b) => a - b);
      const move = (event) => {
        const [start, end] = ends(event).map((time) => this.#percent(time));
        brush.style.setProperty("left", `${start}%`);
        brush.style.setProperty("width", `${end - start}%`);
      };
      const up = (event) => {
        this.#axis.removeEventListener("pointermove", move);
        brush.remove();
        if (event.type === "pointerup" && Math.abs(event.clientX - down.clientX) > 4) look(clamped(ends(event), this.#state.trace.length));
      };
      this.#axis.addEventListener("pointermove", move);
      this.#axis.addEventListener("pointerup", up, { once: true });
      this.#axis.addEventListener("pointercancel", up, { once: true });
    });
    this.#axis.addEventListener("dblclick", () => look([0, this.#state.trace.length]));
  }
}
