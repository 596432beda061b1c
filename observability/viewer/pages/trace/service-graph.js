// Who called whom in one trace, and where each stands in its picture.

/**
 * @returns {{services: {name: string, spans: number, errors: number, layer: number, place: number}[],
 *     calls: {from: string, to: string, calls: number, errors: number, messages: boolean}[]}} Layers from left to right.
 */
export function serviceGraph(spans) {
  const services = new Map();
  const calls = new Map();
  for (const span of spans) {
    const service = services.get(span.service) ?? { name: span.service, spans: 0, errors: 0, layer: 0, place: 0 };
    service.spans += 1;
    service.errors += span.status === "error";
    services.set(span.service, service);
    if (!span.parent || span.parent.service === span.service) continue;
    const messages = span.kind === "consumer";
    const key = JSON.stringify([span.parent.service, span.service, messages]);
    const call = calls.get(key) ?? { from: span.parent.service, to: span.service, calls: 0, errors: 0, messages };
    call.calls += 1;
    // Either side may be the one that knows: who gave up waiting, or who failed.
    call.errors += span.status === "error" || (span.parent.kind === "client" && span.parent.status === "error");
    calls.set(key, call);
  }
  layer(services, [...calls.values()]);
  return { services: [...services.values()], calls: [...calls.values()] };
}

/** One layer to the right of whoever called first; what only calls is on the left. Answers back do not move anyone. */
function layer(services, calls) {
  const called = new Set(calls.map((call) => call.to));
  const pending = [...services.keys()].filter((name) => !called.has(name));
  if (!pending.length && services.size) pending.push(services.keys().next().value);
  const seen = new Set(pending);
  for (let index = 0; index < pending.length || seen.size < services.size; index += 1) {
    if (index === pending.length) { // a circle that nobody outside calls
      const left = [...services.keys()].find((name) => !seen.has(name));
      pending.push(left);
      seen.add(left);
    }
    for (const { from, to } of calls) {
      if (from !== pending[index] || seen.has(to)) continue;
      services.get(to).layer = services.get(from).layer + 1;
      seen.add(to);
      pending.push(to);
    }
  }
  const places = new Map();
  for (const service of services.values()) {
    service.place = places.get(service.layer) ?? 0;
    places.set(service.layer, service.place + 1);
  }
}
