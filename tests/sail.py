"""Sail in this process, for tests of Spark's SQL: a server of Spark Connect that needs no Java."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from asof.connections.spark.client import SparkSession


@contextmanager
def running() -> Iterator[str]:
    """The address of a server of its own, in this process. Without `pysail` the test is skipped, and fails in CI."""
    try:
        from pysail.spark import SparkConnectServer
    except ImportError as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(f"Sail is not installed ({error}): pip install pysail pyspark-client")
    server = SparkConnectServer(port=0)
    server.start(background=True)
    host, port = server.listening_address
    try:
        yield f"sc://{host}:{port}"
    finally:
        server.stop()


@contextmanager
def connected(settings: Mapping[str, str]) -> Iterator[SparkSession]:
    """A session on a server of its own; both end with it."""
    with running() as remote:
        from asof.connections.spark.client import SparkSession

        session = SparkSession.builder.remote(remote).create()
        try:
            for name, value in settings.items():
                session.conf.set(name, value)
            yield session
        finally:
            session.stop()
