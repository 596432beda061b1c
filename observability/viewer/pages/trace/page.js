// The page of a trace: of the viewer or, at /open, of a file.
import { UNNAMED, count, duration, element, load } from "../common.js";
import { live } from "../live.js";
import { acceptDrops, open, opened } from "./file.js";
import { tracesOf } from "./otlp.js";
import { extend, noWord } from "./running.js";
import { show } from "./trace.js";
import { grow, rootOf } from "./tree.js";

const $ = (id) => document.getElementById(id);
const address = new URL(location);
const WATCH_MS = 60_000; // after its last span a trace may still grow
const TICK_MS = matchMedia("(prefers-reduced-motion: reduce)").matches ? 1000 : 250;
const SHARE = 10; // of the time, what drawing may take is one in so many

/** Say when more of a trace has come, while it may still be under way; the reader decides when it is shown. */
function watch(source, trace) {
  const ended = Number(trace.start / 1_000_000n) + trace.length / 1e6;
  const known = trace.spans.length;
  const ask = async (after) => {
    try {
      const { traces: [newer] } = tracesOf([await load(source)]);
      if (newer.spans.length > known) {
        $("fresh").textContent = `${newer.spans.length - known} new`;
        $("fresh").hidden = false;
        return;
      }
    } catch { /* the viewer is away; it may be back the next time */ }
    if (after < WATCH_MS) setTimeout(ask, after, after * 2);
  };
  $("fresh").addEventListener("click", () => location.reload()); // the address says what is looked at
  if (Date.now() - ended < WATCH_MS) setTimeout(ask, 1000, 2000);
}

/** Show how a trace goes on of which spans run, until they have ended. */
function follow(source, answer, trace, page) {
  const said = ({ resourceSpans, resourceLogs, linkedFrom, linkedTo, unfinished }) => JSON.stringify(
    [resourceSpans, resourceLogs, linkedFrom, linkedTo, unfinished.map((one) => [one.spanID, one.silentNano && noWord(one.silentNano)])]);
  let [shown, answered] = [said(answer), performance.now()];
  let told = answer.unfinished;
  let pressed = false; // a press must end on the element that it began on
  for (const type of ["pointerdown", "pointerup", "pointercancel"])
    addEventListener(type, () => { pressed = type === "pointerdown"; }, { capture: true });

  function tick() {
    const began = performance.now();
    if (!document.hidden && !pressed && trace.spans.some((span) => span.running)) {
      extend(trace, told, (began - answered) * 1e6);
      page.retime();
    }
    if (told.length) setTimeout(tick, Math.max(TICK_MS, SHARE * (performance.now() - began)));
  }

  const poll = live(async (signal) => {
    const newer = await load(source, { signal }).catch((error) => {
      if (error.status !== 404) throw error;
    });
    if (!newer) {
      notice("The viewer has forgotten this trace: nothing was heard of it for too long.");
      told = [];
      poll.paused = true;
    }
    if (!newer || pressed) return;
    [told, answered] = [newer.unfinished, performance.now()];
    const says = said(newer);
    if (says !== shown) {
      shown = says;
      ({ traces: [trace] } = tracesOf([newer]));
      extend(trace, told, 0);
      page.update(trace, newer);
    }
    if (told.length) return;
    poll.paused = true;
    watch(source, trace);
  });
  setTimeout(tick, TICK_MS);
}

function notice(text) {
  $("notice").textContent = text;
  $("notice").hidden = false;
}

/** Show the file that was opened last, and have another one chosen. */
async function showFile() {
  $("title").textContent = "Open a file";
  $("share").hidden = true; // nobody else has the file
  $("file").addEventListener("change", () => $("file").files[0] && open($("file").files[0]).catch((error) => notice(error.message)));
  $("open").hidden = false;
  try {
    const file = await opened();
    if (!file) return;
    if (file.leftOut) notice(`${count(file.leftOut, "span")} of ${file.name} could not be taken.`);
    const wanted = address.searchParams.get("trace") ?? (file.traces.length === 1 ? file.traces[0].id : "");
    const trace = file.traces.find((one) => one.id === wanted);
    if (trace) return show(trace);
    $("choices").replaceChildren(...file.traces.map((one) => {
      const link = element("a", "", rootOf(grow(one)).name || UNNAMED);
      link.href = `/open?trace=${one.id}`;
      return element("li", "", link, element("span", "muted", ` ${duration(one.length)}, ${count(one.spans.length, "span")}`));
    }));
  } catch (error) {
    notice(error.message);
  }
}

acceptDrops((error) => notice(error.message));
if (location.pathname === "/open") await showFile();
else {
  const id = location.pathname.split("/").pop();
  try {
    const source = `/api/recent/${encodeURIComponent(id)}/otlp`;
    const answer = await load(source);
    const { traces: [trace] } = tracesOf([answer]);
    $("download").href = source;
    $("compare").href = `/compare?a=${encodeURIComponent(id)}`;
    $("usual").href = `${$("compare").href}&b=usual`;
    for (const link of ["download", "compare", "usual"]) $(link).hidden = false;
    extend(trace, answer.unfinished, 0);
    const page = show(trace, answer);
    if (answer.unfinished.length) follow(source, answer, trace, page);
    else watch(source, trace);
  } catch (error) {
    $("title").textContent = `This trace cannot be shown: ${error.message}`;
  }
}
