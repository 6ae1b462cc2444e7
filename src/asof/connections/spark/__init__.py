"""Servers of Spark Connect: Spark, managed Sparks, and others that speak its protocol, such as Sail."""

from asof.connections.spark.pool import SessionPool
from asof.connections.spark.session import ServerSession

__all__ = ["ServerSession", "SessionPool"]
