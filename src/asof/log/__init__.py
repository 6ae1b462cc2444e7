"""Logs: topics with partitions of ordered records (file log, Kafka)."""
