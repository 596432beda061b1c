// Requests that have not ended and take longer than usual; their time goes on between two answers.

import { UNNAMED, chip, count, duration, element, load } from "./common.js";
import { noWord, ongoing } from "./trace/running.js";

const SHOWN = 6;
const TICK_MS = 200;

const keyOf = (one) => `${one.traceID} ${one.spanID}`;

function draw(one) {
  const link = element("a", "", one.name || UNNAMED);
  link.href = `/trace/${one.traceID}?span=${one.spanID}`;
  const facts = element("div", "muted", chip(one.service));
  const said = [
    ...(one.silentNano ? [[element("span", "silent", noWord(one.silentNano))]] : []),
    ...(one.usualNano == null ? [] : [[`usually ${duration(Math.round(one.usualNano))}`]]),
    ...(one.waitsFor ? [["in ", chip(one.waitsFor.service), ` ${one.waitsFor.name || UNNAMED}`, one.waitsFor.peer && ` to ${one.waitsFor.peer}`]] : []),
  ];
  said.forEach((parts, index) => facts.append(index ? " · " : " ", ...parts));
  return element("li", "", element("span", "times"), element("div", "", link, facts));
}

/** Shows them in `holder`, which is hidden while there are none; `refresh` asks. */
export function inFlight(holder) {
  const title = element("h2");
  const list = element("ul", "plain");
  holder.append(title, list);
  holder.hidden = true;
  let rows = new Map(); // by their keys
  let answered = 0;

  function tick() {
    const since = (performance.now() - answered) * 1e6;
    for (const { row, one } of rows.values())
      row.firstChild.textContent = ongoing(one.elapsedNano + (one.silentNano ? 0 : since));
  }

  async function refresh(signal) {
    const { inFlight: all, unusual, requests, dropped } = await load("/api/in-flight", { signal });
    answered = performance.now();
    const before = rows;
    rows = new Map();
    for (const one of requests.slice(0, SHOWN)) {
      const said = JSON.stringify([one.name, one.usualNano, one.waitsFor, one.silentNano && noWord(one.silentNano)]);
      const kept = before.get(keyOf(one));
      const row = kept?.said === said ? kept.row : draw(one);
      if (kept && kept.row !== row) {
        const focused = kept.row.contains(document.activeElement);
        kept.row.replaceWith(row);
        if (focused) row.querySelector("a").focus({ preventScroll: true });
      }
      rows.set(keyOf(one), { row, one, said });
    }
    for (const [key, { row }] of before) if (!rows.has(key)) row.remove();
    let at = list.firstChild;
    for (const { row } of rows.values()) {
      if (row === at) at = at.nextSibling;
      else list.insertBefore(row, at);
    }
    title.textContent = [`In flight: ${count(all, "request")}, ${unusual} longer than usual`,
      unusual > rows.size ? `the first ${rows.size}` : "",
      dropped ? `${dropped} were too many to keep` : ""].filter(Boolean).join("; ");
    holder.hidden = !unusual;
    tick();
  }

  setInterval(() => holder.hidden || document.hidden || tick(), TICK_MS);
  return { refresh };
}
