// Attributes as people read them: by namespace, with units, and as a search.

// Namespaces of the semantic conventions' registry that programs send most.
const REGISTRY = new Set(["artifact", "aspnetcore", "aws", "azure", "browser", "client", "cloud", "cloudevents", "code", "container", "cpu",
  "db", "deployment", "destination", "device", "disk", "dns", "elasticsearch", "enduser", "error", "exception", "faas", "feature_flag",
  "file", "gcp", "gen_ai", "geo", "graphql", "heroku", "host", "http", "hw", "jvm", "k8s", "linux", "log", "messaging", "net", "network",
  "nodejs", "oci", "opentracing", "os", "otel", "peer", "process", "profile", "rpc", "server", "service", "session", "source", "system",
  "telemetry", "test", "thread", "tls", "url", "user", "user_agent", "v8js", "vcs", "webengine"]);

/** Attributes by the first part of their names, both in the order of the alphabet; those without a dot come first. */
export function byNamespace(attributes) {
  const groups = new Map();
  for (const one of attributes.toSorted((a, b) => (a.key < b.key ? -1 : 1))) {
    const namespace = one.key.includes(".") ? one.key.split(".")[0] : "";
    if (!groups.has(namespace)) groups.set(namespace, []);
    groups.get(namespace).push(one);
  }
  return [...groups].sort(([a], [b]) => (a < b ? -1 : 1));
}

/** Where the conventions describe a namespace; undefined if they do not. */
export const convention = (namespace) =>
  REGISTRY.has(namespace) ? `https://opentelemetry.io/docs/specs/semconv/registry/attributes/${namespace.replaceAll("_", "-")}/` : undefined;

/** A value as text, of a list or an object its JSON. */
export const textOf = (value) => (typeof value === "object" && value !== null ? JSON.stringify(value) : String(value));

/** A number's unit, by its name: sizes are bytes, and the conventions' durations are seconds. */
export function unit(key, value) {
  if (typeof value !== "number") return "";
  if (/(\.|_)(size|bytes)$/.test(key) || /content_length/.test(key)) return bytes(value);
  if (/(_s|\.duration)$/.test(key)) return "s";
  if (/_ms$/.test(key)) return "ms";
  return "";
}

function bytes(value) {
  if (value < 1000) return "bytes";
  const [name, size] = [["GB", 1e9], ["MB", 1e6]].find(([, one]) => value >= one) ?? ["kB", 1e3];
  return `bytes, ${(value / size).toPrecision(3)} ${name}`;
}

/** That something has exactly this value, in the viewer's language (query.py). */
export function condition(key, value) {
  const quoted = (text) => `"${text.replaceAll("\\", "\\\\").replaceAll('"', '\\"')}"`;
  return `${/^[\w.-]+$/.test(key) ? key : quoted(key)}=${quoted(textOf(value))}`;
}

/** The search for traces that have this value. */
export const search = (key, value) => `/traces?${new URLSearchParams({ q: condition(key, value) })}`;
