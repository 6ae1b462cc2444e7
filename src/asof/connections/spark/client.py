"""The client of Spark Connect, imported here and nowhere else: it asks the main module how it was started."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def _named_main_module() -> Iterator[None]:
    """A main module with a file, while the client is imported.

    It takes one without (`python -c`, a worker of pytest) for a doctest of its own, imports its test tools, and ends
    the process where there is no Java.
    """
    main = sys.modules["__main__"]
    if hasattr(main, "__file__"):
        yield
        return
    main.__file__ = "-"
    try:
        yield
    finally:
        del main.__file__


with _named_main_module(), warnings.catch_warnings():
    # It warns about each pandas from 3 on; nothing here passes through pandas.
    warnings.simplefilter("ignore", FutureWarning)
    from pyspark.logger import PySparkLogger
    from pyspark.sql.connect import functions
    from pyspark.sql.connect.client.core import DefaultChannelBuilder
    from pyspark.sql.connect.client.retries import DefaultPolicy, RetryPolicyState
    from pyspark.sql.connect.dataframe import DataFrame
    from pyspark.sql.connect.plan import LocalRelation
    from pyspark.sql.connect.session import SparkSession

# It prints each error of a server with the stacks of both sides; what is raised says it.
PySparkLogger.getLogger("SQLQueryContextLogger").disabled = True
# The client of 4.0 cannot be kept from it; the error that follows says it.
warnings.filterwarnings("ignore", message=r"\[RETRIES_EXCEEDED\]")

__all__ = [
    "DataFrame", "DefaultChannelBuilder", "DefaultPolicy", "LocalRelation", "RetryPolicyState", "SparkSession",
    "functions",
]  # fmt: skip
