// The trace's own services as a picture: who called whom, from left to right.
import { colour, count, element } from "../common.js";
import { serviceGraph } from "./service-graph.js";

const [WIDTH, HEIGHT, ACROSS, DOWN] = [132, 36, 196, 68];
const SVG = "http://www.w3.org/2000/svg";

function shape(tag, attributes, ...children) {
  const node = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  node.append(...children);
  return node;
}

/** What the pane shows of the services of spans. */
export function graph(spans) {
  const { services, calls } = serviceGraph(spans);
  const at = new Map(services.map(({ name, layer, place }) => [name, { x: 4 + layer * ACROSS, y: 28 + place * DOWN, layer }]));
  const width = Math.max(...services.map(({ layer }) => layer)) * ACROSS + WIDTH + 8;
  const height = Math.max(...services.map(({ place }) => place)) * DOWN + HEIGHT + 64;
  const size = { viewBox: "0 0 8 8", refX: 7, refY: 4, markerWidth: 8, markerHeight: 8, markerUnits: "userSpaceOnUse" };
  const arrow = shape("marker", { id: "arrow", orient: "auto-start-reverse", ...size },
    shape("path", { d: "M0 0L8 4L0 8z", class: "tip" }));
  const frame = { viewBox: `0 0 ${width} ${height}`, width, height, role: "img", class: "graph" };
  const picture = shape("svg", { ...frame, "aria-label": "Services of this trace" },
    shape("defs", {}, arrow), ...calls.flatMap((call) => edge(call, at.get(call.from), at.get(call.to))),
    ...services.map((service) => node(service, at.get(service.name))));
  const head = element("tr", "", ...["Call", "Calls", "Errors"].map((text) => element("th", "", text)));
  const table = element("table", "calls", element("thead", "", head), element("tbody", "", ...calls.map((call) => element("tr", "",
      element("td", "", `${call.from} → ${call.to}`, call.messages ? element("span", "muted", " by messages") : ""),
      element("td", "", call.calls), element("td", call.errors ? "error" : "", call.errors)))));
  return [element("h2", "title", "Services"), element("div", "scroll", picture), ...(calls.length ? [table] : [])];
}

function node({ name, spans, errors }, { x, y }) {
  const box = shape("rect", { x, y, width: WIDTH, height: HEIGHT, rx: 6 });
  box.style.setProperty("--colour", colour(name));
  return shape("g", {}, box,
    shape("text", { x: x + 8, y: y + 15, class: "service" }, name.length > 15 ? `${name.slice(0, 14)}…` : name),
    shape("text", { x: x + 8, y: y + 29, class: errors ? "error" : "muted" },
      `${count(spans, "span")}${errors ? `, ${errors} failed` : ""}`),
    shape("title", {}, name));
}

function edge(call, from, to) {
  const style = {
    class: `${call.messages ? "messages" : ""} ${call.errors ? "failed" : ""}`,
    "marker-end": "url(#arrow)",
    "stroke-width": 1 + Math.min(2, Math.log2(call.calls) / 2),
  };
  const middle = HEIGHT / 2;
  let [path, x, y] = [];
  if (to.layer > from.layer) {
    const [x1, y1, x2, y2] = [from.x + WIDTH, from.y + middle, to.x, to.y + middle];
    // Messages bend, so that they stay apart from calls between the same two.
    const bend = call.messages ? 14 : 0;
    path = `M${x1} ${y1}C${x1 + 32} ${y1 + bend} ${x2 - 32} ${y2 + bend} ${x2} ${y2}`;
    [x, y] = [(x1 + x2) / 2, (y1 + y2) / 2 + bend - 5];
  } else {
    const [x1, y1, x2, y2] = [from.x + WIDTH / 2, from.y + HEIGHT, to.x + WIDTH / 2, to.y + HEIGHT];
    const low = Math.max(y1, y2) + 26;
    path = `M${x1} ${y1}C${x1} ${low} ${x2} ${low} ${x2} ${y2}`;
    [x, y] = [(x1 + x2) / 2, low - 9];
  }
  return [shape("path", { d: path, ...style }), shape("text", { x, y, class: "muted", "text-anchor": "middle" }, call.calls)];
}
