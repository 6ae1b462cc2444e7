"""The fuzzers of messages and schemas for ten minutes each, from seeds that differ at each run. Part of `make soak`."""

from __future__ import annotations

import itertools
import time

import pytest

from tests.message_fuzz import FORMATS, fuzz

pytestmark = [pytest.mark.integration, pytest.mark.soak]

SECONDS = 600


@pytest.mark.timeout(SECONDS * 3)
@pytest.mark.parametrize("name", FORMATS)
def test_ten_minutes_of_any_bytes_under_any_schema(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    began = time.monotonic()
    seeds = itertools.count(time.time_ns())

    counts = fuzz(name, lambda: next(seeds) if time.monotonic() - began < SECONDS else None)

    with capsys.disabled():
        print(f"\n{name}: {dict(counts)}")
    assert counts["rows"] and counts["messages"] > counts["rows"]
