#!/bin/bash
# Each service has a database, and a role that may use no other; both have its name. The image runs this once, when it
# makes the cluster. The password is the one in the service's URL: psql reads it from the file, so that it is in no
# environment, on no command line and in no log.
set -euo pipefail

for service in orders inventory payments shipping; do
  psql --no-psqlrc --quiet --username="$POSTGRES_USER" --dbname=postgres --set=ON_ERROR_STOP=1 \
    --set=service="$service" --set=url="/run/secrets/$service-database-url" <<'SQL'
\set password `cut -d: -f3 :'url' | cut -d@ -f1`
SET log_min_error_statement = panic;
CREATE ROLE :"service" LOGIN PASSWORD :'password';
CREATE DATABASE :"service" OWNER :"service";
REVOKE ALL ON DATABASE :"service" FROM PUBLIC;
SQL
done

psql --no-psqlrc --quiet --username="$POSTGRES_USER" --dbname=postgres --set=ON_ERROR_STOP=1 \
  --command='REVOKE ALL ON DATABASE postgres, template1 FROM PUBLIC'
