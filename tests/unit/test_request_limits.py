"""What a request's body has is counted without parsing it, and a large read ends at its limit."""

from __future__ import annotations

import asyncio
import gc
import json
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asof.online.protocol import Lookup, OnlineTable
from asof.server.http import limits
from asof.server.http.bodies import BodyDecoder
from asof.server.http.errors import HttpError
from asof.server.http.limits import may_have_more_values, outside_strings, refuse_many_values
from asof.server.http.requests import Features, refuse_repeated_names
from asof.server.read.bounded import read_bounded

TEXT = st.text(alphabet='a\\",:[]{}\x00é', max_size=8)
JSON = st.recursive(
    st.none() | st.integers() | st.floats(allow_nan=False) | TEXT,
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(TEXT, inner, max_size=5), max_leaves=30,
)  # fmt: skip


def values_of(content: Any) -> int:
    """All values, those within lists and objects as well as these; an empty one of these counts as two."""
    if isinstance(content, dict):
        content = list(content.values())
    return 1 + (sum(map(values_of, content)) or 1) if isinstance(content, list) else 1


def pairs_of(content: Any) -> int:
    if isinstance(content, dict):
        return len(content) + sum(map(pairs_of, content.values()))
    return sum(map(pairs_of, content)) if isinstance(content, list) else 0


@pytest.fixture(params=[1, 3, 16 << 10])
def slices(request: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "SLICE_BYTES", request.param)


@pytest.mark.parametrize("is_ascii", [True, False])
@pytest.mark.usefixtures("slices")
def test_a_body_has_as_many_values_and_pairs_as_are_counted(is_ascii: bool) -> None:
    @given(JSON)
    def check(content: Any) -> None:
        body = json.dumps(content, ensure_ascii=is_ascii).encode()
        outside = b"".join(outside_strings(body))
        assert outside.count(b":") == pairs_of(content)
        n = values_of(content)
        asyncio.run(refuse_many_values(body, n))
        if n > 1:
            assert may_have_more_values(body, n - 1)
            with pytest.raises(HttpError, match=r"too many values; the limit is"):
                asyncio.run(refuse_many_values(body, n - 1))

    check()


def test_what_is_in_strings_is_not_counted() -> None:
    body = json.dumps({"a": ['[{,"\\' * 100_000]}).encode()

    assert may_have_more_values(body, 10)
    asyncio.run(refuse_many_values(body, 10))


@pytest.mark.parametrize("n", [3, 40])
def test_a_name_that_is_repeated_is_found_however_many_there_are(n: int) -> None:
    names = [f"n{i}" for i in range(n)]
    single = ", ".join(f'"{name}": [1, "x:y"]' for name in names)
    refuse_repeated_names(f'{{"df": {{{single}}}, "to": "online"}}'.encode(), names, "df")
    for twice in (f'{{"df": {{{single}, "n1": [2]}}}}', f'{{"df": {{{single}}}, "df": {{}}}}'):
        with pytest.raises(HttpError, match="twice in one object"):
            refuse_repeated_names(twice.encode(), names, "df")


def test_the_collection_of_garbage_goes_on_after_large_bodies() -> None:
    decoder = BodyDecoder(Features)

    assert decoder.decode_large(b'{"entities": {"a": [1]}}').entities == {"a": [1]}
    with pytest.raises(HttpError, match="is not JSON"):
        decoder.decode_large(b"{")
    assert gc.isenabled()


class Rows:
    """A store whose rows have 1,000 bytes, which counts what is read."""

    def __init__(self, *, is_marked: bool = True) -> None:
        self.reads: list[int] = []
        self.is_marked = is_marked

    def read_marked(self, lookups: Sequence[Lookup]) -> list[Any]:
        self.reads.append(sum(len(each.keys) for each in lookups))
        return [
            [(b"x" * 1000, key) for key in each.keys] if self.is_marked or each.table.view == "a" else None
            for each in lookups
        ]


LOOKUPS = [
    Lookup(OnlineTable("shop", view, "g"), [b"%d" % i for i in range(5000)]) for view in ("a", "b")
]  # fmt: skip


def test_a_large_read_is_all_rows_in_order() -> None:
    store: Any = Rows()

    found = read_bounded(store, LOOKUPS, 10_000_000)

    assert found == [[(b"x" * 1000, key) for key in each.keys] for each in LOOKUPS]
    assert len(store.reads) < 10


def test_a_read_ends_where_its_rows_are_too_large() -> None:
    store: Any = Rows()

    with pytest.raises(HttpError, match="reads rows of .* bytes or more; the limit is 1000000") as caught:
        read_bounded(store, LOOKUPS, 1_000_000)

    assert "server.max_response_bytes" in caught.value.hint
    assert sum(store.reads) < 2000


def test_a_large_read_says_which_tables_have_no_marker() -> None:
    store: Any = Rows(is_marked=False)

    first, second = read_bounded(store, LOOKUPS, 10_000_000)

    assert first is not None and second is None
    assert store.reads == [512]
