#!/bin/bash
# What Elasticsearch has to know before the others come: their passwords, what Logstash may do, and how logs are kept.
# It may run any number of times. No password is on a command line.
set -euo pipefail

api() {
  curl --silent --show-error --fail-with-body --config <(printf 'user = "elastic:%s"\n' "$(< /run/secrets/elastic-password)") \
    --header 'Content-Type: application/json' --request "$1" "http://elasticsearch:9200$2" --data @-
  echo
}

printf '{"password": "%s"}' "$(< /run/secrets/kibana-password)" | api POST /_security/user/kibana_system/_password

api PUT /_security/role/logstash_writer <<'JSON'
{
  "cluster": ["monitor"],
  "indices": [{"names": ["logs-clearspan-*"], "privileges": ["auto_configure", "create_doc"]}]
}
JSON

printf '{"password": "%s", "roles": ["logstash_writer"]}' "$(< /run/secrets/logstash-password)" |
  api PUT /_security/user/logstash_writer

api PUT /_index_template/logs-clearspan < "$(dirname "$0")/logs-template.json"
