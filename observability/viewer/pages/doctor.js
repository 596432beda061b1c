// What has arrived, from whom and when last, and what was refused and why.

import { chip, count, element, load, time } from "./common.js";
import { short } from "./chart.js";
import { live, replace } from "./live.js";
import { condition } from "./querybox.js";
import { measured } from "./units.js";

const EVERY_MS = 2000;

const $ = (selector) => document.querySelector(selector);

function ago(us, now) {
  if (us == null) return element("span", "muted", "never");
  const seconds = Math.max(0, Math.round((now - us) / 1e6));
  const told = seconds < 100 ? count(seconds, "second") : seconds < 6000 ? count(Math.round(seconds / 60), "minute") : count(Math.round(seconds / 3600), "hour");
  const node = element("time", "", `${told} ago`);
  node.title = time(us).title;
  return node;
}

function table(node, heads, rows) {
  node.hidden = !rows.length;
  replace(node, element("thead", "", element("tr", "", ...heads.map((head) => Object.assign(element("th", "", head), { scope: "col" })))),
    element("tbody", "", ...rows.map((cells) => element("tr", "", ...cells.map((cell) => element("td", "", cell))))));
}

function sender({ name, spans, lastSpan, logs, instruments }, now) {
  const link = element("a", "chip", name);
  link.style.setProperty("--colour", chip(name).style.getPropertyValue("--colour"));
  link.href = `/traces?${new URLSearchParams({ q: condition("service", name) })}`;
  const none = (what) => element("span", "muted", `no ${what}`);
  return [link, spans ? short(spans) : none("spans"), lastSpan ? ago(lastSpan, now) : "", logs ? `${short(logs)}` : none("records"), instruments ? short(instruments) : none("instruments")];
}

async function refresh(signal) {
  const { now, otlp, since, signals, refusals, senders } = await load("/api/arrivals", { signal });
  $("#otlp").textContent = otlp;
  replace($("#since"), "What has arrived since ", time(since), ", when this viewer began");
  table($("#signals"), ["Signal", "Requests", "Bytes", "Last", "Refused"], signals.map((one) => [one.signal, short(one.requests), measured(one.bytes, "By"), ago(one.last, now), short(one.refused)]));
  table($("#refusals"), ["Signal", "Refused", "Why", "Last"], refusals.map((one) => [one.signal, `${short(one.count)} ${one.what}`, one.reason, ago(one.last, now)]));
  table($("#senders"), ["Service", "Spans, last hour", "Last span", "Log records, of the newest 1000", "Instruments"], senders.map((one) => sender(one, now)));
  $("#unrefused").hidden = refusals.length > 0;
  $("#nobody").hidden = senders.length > 0;
}

live(refresh, EVERY_MS);
