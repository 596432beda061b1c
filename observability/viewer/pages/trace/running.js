// Spans that have not ended: how far they have come, and what is said of them.
import { duration } from "../common.js";

const TENTH = 1e8; // nanoseconds; what changes faster nobody reads

/**
 * Let each unfinished span end where it is now, and the trace with the last one.
 * @param {object} trace Its unfinished spans become `running`, or `silent` for so many nanoseconds.
 * @param {{spanID: string, elapsedNano: number, silentNano: number}[]} told What the viewer said of them.
 * @param {number} since Nanoseconds since it did.
 */
export function extend(trace, told, since) {
  const byId = new Map(told.map((one) => [one.spanID, one]));
  for (const span of trace.spans) {
    const known = span.unfinished && byId.get(span.id);
    if (!known) continue;
    span.silent = known.silentNano;
    span.running = !span.silent;
    span.end = span.start + known.elapsedNano + (span.running ? since : 0);
  }
  trace.length = trace.spans.reduce((most, span) => Math.max(most, span.end), 1);
}

/** A time that goes on, to a tenth of a second. */
export const ongoing = (ns) => duration(ns < TENTH ? Math.round(ns) : Math.floor(ns / TENTH) * TENTH);

/** How long nothing has been heard: "no word for 3 min". */
export function noWord(ns) {
  const seconds = Math.floor(ns / 1e9);
  return `no word for ${seconds < 120 ? `${seconds} s` : `${Math.floor(seconds / 60)} min`}`;
}

/** What a span without an end is, in a word or a few; nothing for one that has ended. */
export function stateOf(span) {
  if (!span.unfinished) return "";
  if (span.running) return "running";
  return span.silent ? noWord(span.silent) : "has not ended";
}
