// How wide the names in the waterfall are: the reader drags their edge or moves it by keys, and the browser keeps it.
import { element } from "../common.js";

const KEY = "clearspan.names";
const [LEAST, MOST, STEP] = [10, 80, 2]; // percent of the waterfall's width
const root = document.documentElement;

const limited = (percent) => Math.min(MOST, Math.max(LEAST, percent));

function kept() {
  try {
    const percent = Number.parseFloat(localStorage.getItem(KEY));
    return percent >= LEAST && percent <= MOST ? percent : null;
  } catch {
    return null; // a browser may forbid it
  }
}

/** Use a width, or the page's own again. */
function use(percent) {
  if (percent === null) root.style.removeProperty("--names");
  else root.style.setProperty("--names", `${percent}%`);
}

function keep(percent) {
  try {
    if (percent === null) localStorage.removeItem(KEY);
    else localStorage.setItem(KEY, percent);
  } catch { /* then for this page only */ }
}

/**
 * The edge between the names and what is right of them.
 * @param {HTMLElement} names The heading of the names.
 * @param {HTMLElement} last The heading of the last column.
 * @param {() => void} changed Is called when the width has changed.
 */
export function edge(names, last, changed) {
  const node = element("div", "edge");
  Object.assign(node, { role: "separator", tabIndex: 0, title: "Drag, or use the arrow keys; a double click takes it back" });
  Object.assign(node, { ariaOrientation: "vertical", ariaLabel: "Width of the names", ariaValueMin: LEAST, ariaValueMax: MOST });
  const left = () => names.getBoundingClientRect().left;
  const whole = () => last.getBoundingClientRect().right - left();
  const now = () => Math.round((names.offsetWidth / whole()) * 100);
  const tell = () => { node.ariaValueNow = String(limited(now() || LEAST)); };

  function set(percent) {
    use(percent);
    changed();
    tell();
  }

  node.addEventListener("pointerdown", (down) => {
    if (down.button !== 0) return;
    node.setPointerCapture(down.pointerId);
    const by = down.clientX - left() - names.offsetWidth; // it is taken where it was touched
    const move = (event) => set(limited(((event.clientX - by - left()) / whole()) * 100));
    const end = () => {
      node.removeEventListener("pointermove", move);
      keep(Number.parseFloat(root.style.getPropertyValue("--names")) || null);
    };
    node.addEventListener("pointermove", move);
    node.addEventListener("lostpointercapture", end, { once: true });
  });
  node.addEventListener("dblclick", () => {
    set(null);
    keep(null);
  });
  node.addEventListener("keydown", (event) => {
    const to = { ArrowLeft: now() - STEP, ArrowRight: now() + STEP, Home: LEAST, End: MOST }[event.key];
    if (to === undefined || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    event.stopPropagation(); // here they do not fold
    set(limited(to));
    keep(limited(to));
  });
  node.addEventListener("focus", tell);
  use(kept());
  tell();
  return node;
}
