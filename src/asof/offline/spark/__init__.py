"""The offline store that computes on a Spark Connect server, over Delta archives that both sides reach."""

from asof.offline.spark.engine import SparkOffline

__all__ = ["SparkOffline"]
