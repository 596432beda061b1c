// Pages that change by themselves: they ask again and again, more seldom where answers take long, and not at all while
// they are paused or hidden.

const EVERY_MS = 1000;

/**
 * Call `refresh` now and then again and again.
 *
 * @param {(signal: AbortSignal) => Promise<void>} refresh asks and shows; if it fails the page is marked as offline.
 * @param {number} every is the shortest time between two calls, in milliseconds.
 */
export function live(refresh, every = EVERY_MS) {
  let timer;
  let controller = new AbortController();
  let paused = false;

  async function turn() {
    clearTimeout(timer);
    controller.abort();
    const mine = (controller = new AbortController());
    const began = performance.now();
    try {
      await refresh(mine.signal);
      if (!mine.signal.aborted) document.body.classList.remove("offline");
    } catch {
      if (!mine.signal.aborted) document.body.classList.add("offline");
    }
    // A search that takes long must not be all that the viewer does.
    if (!mine.signal.aborted) timer = setTimeout(next, Math.max(every, 4 * (performance.now() - began)));
  }

  function next() {
    if (!document.hidden && !paused) turn();
  }

  document.addEventListener("visibilitychange", () => (document.hidden ? clearTimeout(timer) : next()));
  turn();
  return {
    /** Ask at once, whatever was asked before. */
    now: turn,
    get paused() {
      return paused;
    },
    set paused(value) {
      paused = value;
      if (paused) clearTimeout(timer);
      else next();
    },
  };
}

/** A button that pauses and goes on. */
export function pauseButton(button, subject) {
  const draw = () => {
    button.textContent = subject.paused ? "▶ Go on" : "❚❚ Pause";
    button.setAttribute("aria-pressed", String(subject.paused));
  };
  button.addEventListener("click", () => {
    subject.paused = !subject.paused;
    draw();
  });
  draw();
}

/** Put new nodes into a holder; the link in it that had the focus has it again. */
export function replace(holder, ...nodes) {
  const focused = holder.contains(document.activeElement) ? document.activeElement.getAttribute("href") : null;
  holder.replaceChildren(...nodes);
  if (focused) [...holder.querySelectorAll("a")].find((link) => link.getAttribute("href") === focused)?.focus({ preventScroll: true });
}
