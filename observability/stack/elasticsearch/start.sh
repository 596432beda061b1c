#!/bin/bash
# Elasticsearch writes a keystore beside its configuration, which is read-only here, and takes its password from a file
# that nobody else may read, which a secret of Compose is not: so it gets copies.
set -euo pipefail

(
  umask 077
  cp -r /usr/share/elasticsearch/config /tmp/config
  cat /run/secrets/elastic-password > /tmp/elastic-password
)
export ES_PATH_CONF=/tmp/config ELASTIC_PASSWORD_FILE=/tmp/elastic-password
exec /bin/tini -- /usr/local/bin/docker-entrypoint.sh eswrapper
