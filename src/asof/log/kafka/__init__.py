"""The log on Apache Kafka."""

from asof.log.kafka.log import KafkaLog

__all__ = ["KafkaLog"]
