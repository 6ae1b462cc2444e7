"""An offline store as another package would bring it: SQLite computes, over the Delta archives, by added files alone."""

from tests.third_engine.engine import ThirdOffline

__all__ = ["ThirdOffline"]
