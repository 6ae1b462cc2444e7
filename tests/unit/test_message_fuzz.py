"""A short run of each fuzzer of messages and schemas; the long one is in `make soak`."""

from __future__ import annotations

import pytest

from tests.message_fuzz import FORMATS, fuzz


@pytest.mark.parametrize("name", FORMATS)
def test_any_bytes_under_any_schema_are_rows_or_letters_the_same_alone_as_among_others(name: str) -> None:
    counts = fuzz(name, range(60))

    assert counts["cases"] == 60 and counts["rows"] and counts["messages"] > counts["rows"]


@pytest.mark.parametrize(("name", "seed"), [("avro", 32)])
def test_a_case_that_once_failed(name: str, seed: int) -> None:
    fuzz(name, [seed])
