// Measurements with their units, which are those of UCUM: `s`, `By`, `{request}`, `1`.

import { duration } from "./common.js";
import { short } from "./chart.js";

const SECONDS = { s: 1, ms: 1e-3, us: 1e-6, ns: 1e-9 };
const BYTES = ["B", "KiB", "MiB", "GiB", "TiB"];

function bytes(value) {
  const power = Math.min(BYTES.length - 1, Math.max(0, Math.floor(Math.log2(Math.max(1, Math.abs(value))) / 10)));
  return `${short(value / 1024 ** power)} ${BYTES[power]}`;
}

/** A value of a unit. */
export function measured(value, unit) {
  if (unit in SECONDS && value > 0) return duration(Math.round(value * SECONDS[unit] * 1e9)).replace(/\.0+(?= )/, "");
  if (unit === "By") return bytes(value);
  if (unit === "1" || unit === "" || unit in SECONDS || unit.startsWith("{")) return short(value);
  return `${short(value)} ${unit}`;
}

/** A unit in words, where it says more than a number. */
export function unitName(unit) {
  return { s: "seconds", ms: "milliseconds", By: "bytes", 1: "", "%": "percent" }[unit] ?? unit.replace(/[{}]/g, "");
}
