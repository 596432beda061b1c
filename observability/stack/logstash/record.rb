# A log record of OTLP as a document, by the names of the Elastic Common Schema where it has one.

def filter(event)
  resource = attributes(event.get("[resourceLogs][resource][attributes]"))
  scope = event.get("[resourceLogs][scopeLogs][scope][name]")
  record = event.get("[resourceLogs][scopeLogs][logRecords]")
  nanoseconds = (record["timeUnixNano"] || record["observedTimeUnixNano"]).to_i

  event.to_hash.each_key { |name| event.remove(name) unless name == "@timestamp" }
  event.timestamp = LogStash::Timestamp.at(nanoseconds / 1_000_000_000, nanoseconds % 1_000_000_000 / 1000.0)
  {
    "message" => text(plain(record["body"])),
    "[log][level]" => record["severityText"],
    "[log][logger]" => scope,
    "[trace][id]" => record["traceId"],
    "[span][id]" => record["spanId"],
    "[service][name]" => resource["service.name"],
    "[service][namespace]" => resource["service.namespace"],
    "[service][version]" => resource["service.version"],
    "[service][environment]" => resource["deployment.environment.name"],
    "attributes" => attributes(record["attributes"]),
    "resource" => resource,
  }.each { |name, value| event.set(name, value) unless value.nil? || value == "" }
  [event]
end

def attributes(pairs)
  (pairs || []).to_h { |pair| [pair["key"], plain(pair["value"])] }
end

# A value without the name of its type; 64-bit integers are strings in OTLP's JSON.
def plain(value)
  type, content = (value || {}).first
  case type
  when "intValue" then content.to_i
  when "arrayValue" then (content["values"] || []).map { |one| plain(one) }
  when "kvlistValue" then attributes(content["values"])
  else content
  end
end

def text(body)
  body.nil? || body.is_a?(String) ? body : body.to_s
end
