// How far back a page looks: `last=15m` in its URL.

import { element } from "./common.js";

const CHOICES = { "5m": "5 minutes", "15m": "15 minutes", "1h": "hour", "6h": "6 hours", "24h": "24 hours" };
const UNITS_US = { m: 60e6, h: 3600e6 };
const DEFAULT = "15m";

const wanted = () => {
  const last = new URL(location).searchParams.get("last");
  return last in CHOICES ? last : DEFAULT;
};

/** Fill a select; `changed` is called when the reader has chosen, and the URL says so already. */
export function lastSelect(select, changed) {
  select.append(...Object.entries(CHOICES).map(([value, name]) => Object.assign(element("option", "", name), { value })));
  select.value = wanted();
  select.addEventListener("change", () => {
    const url = new URL(location);
    url.searchParams.set("last", select.value);
    history.pushState(null, "", url);
    changed();
  });
  window.addEventListener("popstate", () => (select.value = wanted()));
}

/** Start and end of that time, in microseconds, for a query. */
export function lastTime() {
  const last = wanted();
  const end = Date.now() * 1000;
  return { start: String(end - Number.parseInt(last, 10) * UNITS_US[last.at(-1)]), end: String(end) };
}
