"""The expressions' suite on Sail, in process: Spark's SQL through Spark Connect."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pytest

from asof.dtypes import DType
from asof.sql.spark.dialect import SESSION
from asof.testing.expressions import ExpressionSuite, Rows, Run
from tests.sail import connected

if TYPE_CHECKING:
    from asof.connections.spark.client import SparkSession

pytestmark = pytest.mark.integration


def answers(
    session: SparkSession, columns: Sequence[str], rows: Rows, schema: Mapping[str, DType]
) -> list[tuple[Any, ...]]:
    arrays = [pa.array([row[name] for row in rows], dtype.arrow()) for name, dtype in schema.items()]
    table = pa.table([pa.array(range(len(rows))), *arrays], ["row number", *schema])
    session.createDataFrame(table).createOrReplaceTempView("given")
    texts = ", ".join(f"{sql} AS c{number}" for number, sql in enumerate(columns))
    found = session.sql(f"SELECT {texts} FROM given ORDER BY `row number`").toArrow()
    return list(zip(*(column.to_pylist() for column in found.columns)))


@pytest.fixture(scope="module")
def session() -> Iterator[SparkSession]:
    with connected(SESSION) as session:
        yield session


class TestExpressionsOnSail(ExpressionSuite):
    dialect = "spark_checked"

    @pytest.fixture
    def run(self, session: SparkSession) -> Run:
        return lambda columns, rows, schema: answers(session, columns, rows, schema)
