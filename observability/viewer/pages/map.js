// The map of services: who calls whom, how often, and what share of it fails. Messages are dashed.

import { colour, duration } from "./common.js";
import { hint, percent, short, svg } from "./chart.js";
import { layers } from "./layers.js";

const [WIDTH, HEIGHT, ACROSS, DOWN, MARGIN] = [176, 48, 120, 28, 12];
const BACK = 44; // how far below the nodes an edge runs that goes back

const cut = (text, most) => (text.length > most ? `${text.slice(0, most - 1)}…` : text);

/** A curve through points, level at each of them. */
function curve(points) {
  return points.slice(1).reduce((path, [x, y], index) => {
    const [px, py] = points[index];
    const middle = (px + x) / 2;
    return `${path}C${middle},${py} ${middle},${y} ${x},${y}`;
  }, `M${points[0].join(",")}`);
}

/**
 * @param {{name: string, calls: number, errors: number, p95: number | null}[]} services
 * @param {{caller: string, callee: string, messaging: boolean, calls: number, errors: number}[]} calls
 * @param {number} seconds that were looked at.
 * @param {(service: string) => string} link to a service.
 * @returns {SVGElement}
 */
export function serviceMap(services, calls, seconds, link) {
  const known = new Map(services.map((service) => [service.name, service]));
  const names = [...new Set([...known.keys(), ...calls.flatMap(({ caller, callee }) => [caller, callee])])].sort();
  // Calls tell more of the order than messages, and services that call many more than those that call few. How often
  // does not count, so that the map stays as it is while it is looked at.
  const called = (name) => calls.filter(({ caller, callee, messaging }) => caller === name && callee !== name && !messaging).length;
  const edges = calls.filter(({ caller, callee }) => caller !== callee)
    .map((call) => ({ ...call, from: call.caller, to: call.callee, called: called(call.caller) }))
    .sort((a, b) => a.messaging - b.messaging || b.called - a.called || (`${a.from}\n${a.to}` < `${b.from}\n${b.to}` ? -1 : 1));
  const { columns, at, paths, back } = layers(names, edges);
  const rows = Math.max(1, ...columns.map((column) => column.length));
  const depthOfBack = back.size ? BACK + 12 * back.size : 0;
  const height = rows * (HEIGHT + DOWN) - DOWN + 2 * MARGIN + depthOfBack;
  const width = columns.length * (WIDTH + ACROSS) - ACROSS + 2 * MARGIN;
  const place = (name) => {
    const { column, row } = at.get(name);
    const free = rows - columns[column].length;
    return [MARGIN + column * (WIDTH + ACROSS), MARGIN + (row + free / 2) * (HEIGHT + DOWN)];
  };
  const chart = svg("svg", { class: "map", viewBox: `0 0 ${width} ${height}`, width, height, role: "group", "aria-label": "Map of services" });
  chart.append(svg("defs", {}, svg("marker", { id: "arrow", viewBox: "0 0 8 8", refX: 7, refY: 4, markerWidth: 10, markerHeight: 10, markerUnits: "userSpaceOnUse", orient: "auto" }, svg("path", { d: "M0,0L8,4L0,8Z" }))));

  const busiest = Math.max(1, ...edges.map((edge) => edge.calls));
  // Edges that begin or end at the same side of a node share it.
  const sides = new Map();
  const side = (key) => sides.set(key, (sides.get(key) ?? 0) + 1);
  for (const edge of paths.keys()) {
    side(`${edge.from}>`);
    side(`>${edge.to}`);
  }
  const used = new Map();
  const dock = (key) => {
    used.set(key, (used.get(key) ?? 0) + 1);
    return (HEIGHT * used.get(key)) / (sides.get(key) + 1);
  };
  const byTarget = [...paths.keys()].sort((a, b) => place(a.to)[1] - place(b.to)[1] || a.messaging - b.messaging);
  const starts = new Map(byTarget.map((edge) => [edge, dock(`${edge.from}>`)]));
  const bySource = [...paths.keys()].sort((a, b) => place(a.from)[1] - place(b.from)[1] || a.messaging - b.messaging);
  const ends = new Map(bySource.map((edge) => [edge, dock(`>${edge.to}`)]));

  const labels = [];
  let below = 0;
  for (const edge of edges) {
    let path;
    let middle;
    if (back.has(edge)) {
      const [[fromX, fromY], [toX, toY]] = [place(edge.from), place(edge.to)];
      const low = height - MARGIN - 4 - 12 * below;
      const [startX, endX] = [fromX + WIDTH / 2 - 10, toX + WIDTH / 2 + 10 + 14 * below];
      below += 1;
      path = `M${startX},${fromY + HEIGHT}C${startX},${low + 8} ${startX},${low} ${(startX + endX) / 2},${low}S${endX},${low} ${endX},${toY + HEIGHT}`;
      middle = [(startX + endX) / 2, low - 4];
    } else {
      const [fromX, fromY] = place(edge.from);
      const [toX, toY] = place(edge.to);
      const through = paths.get(edge).slice(1, -1).flatMap((name) => {
        const [x, y] = place(name);
        return [[x, y + HEIGHT / 2], [x + WIDTH, y + HEIGHT / 2]];
      });
      const points = [[fromX + WIDTH, fromY + starts.get(edge)], ...through, [toX, toY + ends.get(edge)]];
      path = curve(points);
      const [a, b] = points;
      middle = [(a[0] + b[0]) / 2, (a[1] + b[1]) / 2 - 7];
    }
    const thick = 1.5 + 3 * Math.sqrt(edge.calls / busiest);
    const told = `${edge.from} ${edge.messaging ? "sends messages to" : "calls"} ${edge.to}: ${short(edge.calls / seconds)}/s, ${percent(edge.errors, edge.calls)} errors`;
    const group = svg("g", { class: edge.messaging ? "edge messaging" : "edge", role: "img", "aria-label": told }, hint(told));
    group.append(svg("path", { d: path, "stroke-width": thick.toFixed(1), "marker-end": "url(#arrow)" }));
    if (edge.errors)
      group.append(svg("path", { class: "errors", d: path, "stroke-width": Math.max(1.5, (thick * edge.errors) / edge.calls).toFixed(1) }));
    chart.append(group);
    labels.push(svg("text", { class: edge.errors ? "mark error" : "mark", x: middle[0], y: middle[1], "text-anchor": "middle", "aria-hidden": "true" },
      `${short(edge.calls / seconds)}/s${edge.errors ? ` · ${percent(edge.errors, edge.calls)}` : ""}`));
  }
  chart.append(...labels);

  for (const name of names) {
    const [x, y] = place(name);
    const service = known.get(name);
    const figures = service
      ? `${short(service.calls / seconds)}/s · ${percent(service.errors, service.calls)}${service.p95 == null ? "" : ` · ${duration(service.p95)}`}`
      : "has sent nothing itself";
    const node = svg("a", { href: link(name), class: "node", "aria-label": `${name}: ${figures}` },
      hint(name),
      svg("rect", { x, y, width: WIDTH, height: HEIGHT, rx: 6 }),
      svg("rect", { class: "stripe", x, y: y + 6, width: 4, height: HEIGHT - 12, fill: colour(name) }),
      svg("text", { class: "name", x: x + 14, y: y + 20 }, cut(name, 22)),
      svg("text", { class: service?.errors ? "mark error" : "mark", x: x + 14, y: y + 37 }, figures));
    chart.append(node);
  }
  return chart;
}
