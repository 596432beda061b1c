"""The viewer: receives OTLP, keeps the latest traces, and shows them on one machine without any other program."""
