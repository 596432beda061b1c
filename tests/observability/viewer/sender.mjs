// A trace by OpenTelemetry's own SDK for JavaScript: `node sender.mjs FOLDER PROTOCOL ENDPOINT [COMPRESSION]` prints its id.
// FOLDER has its packages; PROTOCOL is http, proto or grpc, as the exporters' packages are named.
import { createRequire } from "node:module";

const [folder, protocol, url, compression = "none"] = process.argv.slice(2);
const require = createRequire(`${folder}/`);
const { SpanKind, SpanStatusCode, context, trace } = require("@opentelemetry/api");
const { BasicTracerProvider, SimpleSpanProcessor } = require("@opentelemetry/sdk-trace-base");
const { OTLPTraceExporter } = require(`@opentelemetry/exporter-trace-otlp-${protocol}`);

const exporter = new OTLPTraceExporter({ url, compression });
const provider = new BasicTracerProvider({ spanProcessors: [new SimpleSpanProcessor(exporter)] });
const tracer = provider.getTracer("sender");
const root = tracer.startSpan("root", { kind: SpanKind.SERVER, attributes: { whole: 42, half: 0.5, list: ["ä", "b"] } });
const child = tracer.startSpan("child", { links: [{ context: root.spanContext() }] }, trace.setSpan(context.active(), root));
child.addEvent("event", { yes: true });
child.setStatus({ code: SpanStatusCode.ERROR, message: "failed" });
child.end();
root.end();
await provider.forceFlush();
await provider.shutdown();
console.log(root.spanContext().traceId);
