#!/bin/sh
# Prints the Secrets of this overlay, with new passwords each time: secret.sh | kubectl apply --filename -
# Applied again, it is for a new namespace: the databases keep the passwords that they were started with.
set -eu
password() { od -An -N24 -tx1 /dev/urandom | tr -d ' \n'; }
postgresql=$(password) valkey=$(password) nats=$(password)
cat <<SECRETS
apiVersion: v1
kind: Secret
metadata:
  name: databases
  namespace: shop
stringData:
  POSTGRESQL_PASSWORD: "$postgresql"
  VALKEY_PASSWORD: "$valkey"
  NATS_PASSWORD: "$nats"
---
apiVersion: v1
kind: Secret
metadata:
  name: shop
  namespace: shop
stringData:
  DATABASE_URL: "postgresql://shop:$postgresql@postgresql:5432/shop"
  REDIS_URL: "redis://:$valkey@valkey:6379/0"
  BROKER_URL: "nats://shop:$nats@nats:4222"
  CLEARSPAN_EVENTS_TOKEN: "$(password)"
SECRETS
