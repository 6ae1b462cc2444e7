"""Telemetry of the server: counts, metrics, traces, the access log and the feature log."""
