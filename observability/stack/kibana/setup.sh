#!/bin/bash
# The data view of the logs, through Kibana's API. It may run any number of times.
set -euo pipefail

curl --silent --show-error --fail-with-body --config <(printf 'user = "elastic:%s"\n' "$(< /run/secrets/elastic-password)") \
  --header 'Content-Type: application/json' --header 'kbn-xsrf: true' \
  http://kibana:5601/api/data_views/data_view --data @"$(dirname "$0")/data-view.json"
echo
