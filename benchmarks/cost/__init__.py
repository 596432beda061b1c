"""What telemetry costs a server and a client: this kit beside bare FastAPI and beside the others, in one run."""
