// The whole trace in a strip; what is brushed over becomes the view of the waterfall.
import { colour, duration, element } from "../common.js";
import { isWait } from "./attempts.js";
import { clamped, moved } from "./view.js";

const STEP = 0.02; // of the view, for each press of an arrow

export class Minimap {
  #canvas = element("canvas");
  #before = element("div", "veil before");
  #after = element("div", "veil after");
  #handles;
  #box;
  #state;
  #scale;
  #look;

  constructor(box, look) {
    this.#box = box;
    this.#look = look;
    this.#canvas.ariaHidden = "true";
    this.#handles = ["Start of the view", "End of the view"].map((label, end) => this.#handle(label, end));
    box.replaceChildren(this.#canvas, this.#before, this.#after, ...this.#handles);
    box.addEventListener("pointerdown", (event) => this.#brush(event));
    box.addEventListener("dblclick", () => look([0, this.#state.trace.length]));
    new ResizeObserver(() => this.#state && this.paint()).observe(box);
    new MutationObserver(() => this.#state && this.paint()).observe(document.documentElement, { attributeFilter: ["data-theme"] });
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.#state && this.paint());
  }

  /** Show a state; the strip itself is painted only where another scale asks for it. */
  show(state) {
    const other = this.#scale !== state.scale;
    this.#state = state;
    this.#scale = state.scale;
    if (other) this.paint();
    const { scale, view, trace: { length } } = state;
    const [from, to] = view.map((time) => `${(scale.place(time) / scale.length) * 100}%`);
    this.#before.style.setProperty("width", from);
    this.#after.style.setProperty("left", to);
    view.forEach((time, index) => {
      const handle = this.#handles[index];
      handle.style.setProperty("left", [from, to][index]);
      handle.ariaValueMin = "0";
      handle.ariaValueMax = String(length);
      handle.ariaValueNow = String(Math.round(time));
      handle.ariaValueText = `+${duration(Math.round(time))}`;
    });
  }

  paint() {
    const { clientWidth: width, clientHeight: height } = this.#box;
    const ratio = window.devicePixelRatio || 1;
    this.#canvas.width = width * ratio;
    this.#canvas.height = height * ratio;
    const paint = this.#canvas.getContext("2d");
    paint.scale(ratio, ratio);
    const style = getComputedStyle(this.#box);
    const { scale, order, idle } = this.#state;
    const x = (time) => (scale.place(time) / scale.length) * width;
    paint.fillStyle = style.getPropertyValue("--idle-paint");
    for (const [from, to] of idle) paint.fillRect(x(from), 0, x(to) - x(from), height);
    const step = Math.min(4, (height - 4) / order.length);
    const error = style.getPropertyValue("--error-paint");
    const wait = style.getPropertyValue("--wait-paint");
    order.forEach((span, index) => {
      paint.fillStyle = isWait(span) ? wait : span.status === "error" ? error : colour(span.service);
      paint.fillRect(x(span.start), 2 + index * step, Math.max(1, x(span.end) - x(span.start)), Math.max(1, step > 2 ? step - 1 : step));
    });
  }

  #handle(label, end) {
    const handle = element("div", "handle");
    handle.role = "slider";
    handle.tabIndex = 0;
    handle.ariaLabel = label;
    handle.addEventListener("keydown", (event) => {
      const direction = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
      if (!direction) return;
      event.preventDefault();
      event.stopPropagation();
      this.#moved(end, this.#state.view[end] + direction * STEP * (this.#state.view[1] - this.#state.view[0]));
    });
    return handle;
  }

  /** Have one end of the view at a time, and the other one stay. */
  #moved(end, time) {
    const view = [...this.#state.view];
    view[end] = time;
    if (view[0] < view[1]) this.#look(clamped(view, this.#state.trace.length));
  }

  #brush(down) {
    const { left, width } = this.#box.getBoundingClientRect();
    const { scale, trace: { length } } = this.#state;
    const time = (event) => scale.time(Math.min(1, Math.max(0, (event.clientX - left) / width)) * scale.length);
    const held = this.#handles.indexOf(down.target);
    const from = time(down);
    const begun = [...this.#state.view];
    const whole = begun[0] === 0 && begun[1] === length;
    const seen = (scale.place(begun[1]) - scale.place(begun[0])) / scale.length; // the share of the strip
    const inside = !whole && from > begun[0] && from < begun[1];
    this.#box.setPointerCapture(down.pointerId);
    const move = (event) => {
      if (Math.abs(event.clientX - down.clientX) < 3) return;
      if (held >= 0) this.#moved(held, time(event));
      else if (inside) this.#look(moved(begun, (event.clientX - down.clientX) / width / seen, this.#state));
      else this.#look(clamped([from, time(event)].sort((a, b) => a - b), length));
    };
    const up = () => {
      this.#box.removeEventListener("pointermove", move);
      this.#box.removeEventListener("pointerup", up);
      this.#box.removeEventListener("pointercancel", up);
    };
    this.#box.addEventListener("pointermove", move);
    this.#box.addEventListener("pointerup", up);
    this.#box.addEventListener("pointercancel", up);
  }
}
