"""The online store on Redis or Valkey."""

from asof.online.redis.store import RedisOnlineStore

__all__ = ["RedisOnlineStore"]
