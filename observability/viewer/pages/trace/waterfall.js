// The waterfall: of all rows only those in sight are elements, so that any number of them scrolls alike.
import { duration, element } from "../common.js";
import { edge } from "./columns.js";
import { drawRow, part, percent, retime } from "./row.js";
import { isSame } from "./rows.js";
import { ticks } from "./scale.js";
import { clamped, moved, zoomed } from "./view.js";

const AHEAD = 12; // rows beyond either edge
const LABEL = 52; // pixels that the label of a tick takes
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
    const names = heading("name", "Span");
    names.ariaLabel = "Span";
    names.append(edge(names, this.#axis, () => this.#state && this.show(this.#state)));
    const head = element("div", "head", names, heading("number", "Duration"), this.#axis);
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

  /** Draw a state again whose rows are the same while its times have changed. */
  retime(state) {
    this.#state = state;
    this.#drawAxis();
    for (const [index, node] of this.#drawn) retime(node, state.rows[index], state);
  }

  /** Run `change`, which draws other rows, so that the row that is being looked at stays where it is on the screen. */
  around(change) {
    const seen = this.#scroller.querySelector(".row:hover")?.dataset.index ?? Math.ceil(this.#scroller.scrollTop / this.rowHeight);
    const before = this.#state.rows[seen];
    change();
    const now = this.#state.rows.findIndex((row) => isSame(row.item, before?.item));
    if (now < 0 || now === Number(seen)) return;
    this.#scroller.scrollTop += (now - seen) * this.rowHeight;
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
      const node = drawRow(rows[index], index, this.#state);
      node.style.transform = `translateY(${index * height}px)`;
      this.#drawn.set(index, node);
      fresh.push(node);
    }
    this.#body.append(...fresh);
    const chosen = this.#drawn.get(this.#state.chosen);
    if (chosen) this.#scroller.setAttribute("aria-activedescendant", chosen.id);
    else this.#scroller.removeAttribute("aria-activedescendant");
  }

  #drawAxis() {
    const { scale, view } = this.#state;
    const width = this.#axis.clientWidth;
    const marks = ticks(scale, view, Math.max(2, width / 75));
    const at = (node, time) => {
      node.style.setProperty("left", `${percent(this.#state, time)}%`);
      return node;
    };
    const labels = [];
    let free = -Infinity; // from here on, in pixels, so that no label is on another one
    for (const mark of marks) {
      const x = (percent(this.#state, mark.at) / 100) * width;
      const last = x > width - LABEL;
      if ((last ? x - LABEL : x) < free) continue;
      labels.push(at(element("span", last ? "tick last" : "tick", mark.label), mark.at));
      free = last ? x : x + LABEL;
    }
    this.#axis.replaceChildren(...labels);
    const squeezed = new Set(scale.gaps);
    const bands = this.#state.idle.map((gap) => {
      const band = part(this.#state, "idle", gap);
      if (band && squeezed.has(gap)) {
        band.classList.add("squeezed");
        band.append(element("span", "", duration(gap[1] - gap[0])));
      }
      return band;
    }).filter(Boolean);
    this.#backdrop.replaceChildren(...bands, ...marks.map((mark) => at(element("span", "rule"), mark.at)));
  }

  #timeAt(clientX) {
    const { left, width } = this.#axis.getBoundingClientRect();
    const { scale, view } = this.#state;
    const [from, to] = view.map(scale.place);
    return scale.time(from + ((clientX - left) / width) * (to - from));
  }

  #wheel(look) {
    this.#scroller.addEventListener("wheel", (event) => {
      const { view } = this.#state;
      const sideways = event.shiftKey ? event.deltaY : event.deltaX;
      const factor = 1 + Math.max(-0.5, Math.min(1, event.deltaY * WHEEL));
      if (event.ctrlKey) look(zoomed(view, this.#timeAt(event.clientX), factor, this.#state));
      else if (sideways) look(moved(view, sideways / this.#axis.clientWidth, this.#state));
      else return;
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
        const [start, end] = ends(event).map((time) => percent(this.#state, time));
        brush.style.setProperty("left", `${start}%`);
        brush.style.setProperty("width", `${end - start}%`);
      };
      const up = (event) => {
        this.#axis.removeEventListener("pointermove", move);
        brush.remove();
        const dragged = event.type === "pointerup" && Math.abs(event.clientX - down.clientX) > 4; // pixels, else a click
        if (dragged) look(clamped(ends(event), this.#state.trace.length));
      };
      this.#axis.addEventListener("pointermove", move);
      this.#axis.addEventListener("pointerup", up, { once: true });
      this.#axis.addEventListener("pointercancel", up, { once: true });
    });
    this.#axis.addEventListener("dblclick", () => look([0, this.#state.trace.length]));
  }
}
