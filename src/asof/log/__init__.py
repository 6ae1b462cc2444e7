"""Logs: topics of partitions that are appended to and read in order (file log, Kafka)."""
