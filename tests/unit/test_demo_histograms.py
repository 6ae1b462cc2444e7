"""The histograms count every order once, whatever the values, and fit the terminal."""

from __future__ import annotations

import builtins
import json

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asof.demo.histograms import PANELS, count_views, draw_histograms, place_of, terminal_histograms
from asof.distribution import install_command
from asof.errors import MissingExtra


def training_set(listing: list, product: list | None = None, photo: list | None = None) -> pa.Table:
    columns = (listing, product or [0] * len(listing), photo or [0] * len(listing))
    return pa.table({name: pa.array(values, pa.int64()) for name, values in zip(PANELS, columns, strict=True)})


def test_each_bar_counts_its_values() -> None:
    histogram = count_views(training_set([1, 1, 3, None]))["session_listing_page_views"]

    assert [(bar["label"], bar["count"]) for bar in histogram["bins"]] == [("0", 0), ("1", 2), ("2", 0), ("3", 1)]
    assert (histogram["rows"], histogram["missing"], histogram["largest"]) == (3, 1, 3)
    assert (histogram["mean"], histogram["median"]) == (pytest.approx(5 / 3), 1.0)


def test_a_long_tail_is_clipped_into_one_open_bar() -> None:
    histogram = count_views(training_set([*range(10)] * 20 + [500, 100_000]))["session_listing_page_views"]
    last = histogram["bins"][-1]

    assert (last["label"], last["high"], last["count"]) == ("≥ 12", None, 2)
    assert len(histogram["bins"]) == 13


def test_wide_values_share_wider_bars() -> None:
    bars = count_views(training_set([*range(100)], product=[1] * 100))["session_product_page_views"]["bins"]

    assert [bar["label"] for bar in bars[:2]] == ["0-9", "10-19"]
    assert place_of(4.5, bars) == 0 and place_of(14.5, bars) == 1 and place_of(1e9, bars) == len(bars) - 1


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(*[st.integers(0, 2**62) | st.integers(0, 20)] * 3), max_size=40))
def test_every_row_is_in_exactly_one_bar_and_all_panels_share_bars(rows: list[tuple[int, int, int]]) -> None:
    histograms = count_views(training_set(*([row[place] for row in rows] for place in range(3))))
    labels = [[bar["label"] for bar in histogram["bins"]] for histogram in histograms.values()]

    assert labels[0] == labels[1] == labels[2] and len(labels[0]) <= 13
    for place, histogram in enumerate(histograms.values()):
        assert sum(bar["count"] for bar in histogram["bins"]) == len(rows)
        for bar in histogram["bins"]:
            high = bar["high"] if bar["high"] is not None else 2**63
            assert bar["count"] == sum(bar["low"] <= row[place] <= high for row in rows)


@pytest.mark.parametrize("width", [60, 80, 109, 110, 120, 200])
def test_the_terminal_picture_fits_its_width_and_shows_all_counts(width: int) -> None:
    text = terminal_histograms(training_set([1] * 1234 + [2] * 617 + [9]), width)

    assert max(map(len, text.splitlines())) <= width
    assert "1,234   66.6%" in text and "617   33.3%" in text
    assert "N = 1,852 orders" in text and "mean 1.3 · median 1 · max 9" in text
    assert all(title in text for title, _ in PANELS.values())


def test_a_bar_is_never_rounded_away() -> None:
    lines = terminal_histograms(training_set([1] * 100_000 + [2]), 80).splitlines()

    assert next(line for line in lines if line.startswith(" 2 ")).startswith(" 2 │▏")


def test_wide_terminals_have_the_panels_side_by_side() -> None:
    table = training_set([1, 2])

    assert len(terminal_histograms(table, 120).splitlines()) < len(terminal_histograms(table, 80).splitlines())


def test_without_orders_the_terminal_says_so() -> None:
    assert terminal_histograms(training_set([]), 80).count("no orders") == 3


def test_without_matplotlib_the_picture_names_the_extra(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    real_import = builtins.__import__

    def without_matplotlib(name: str, *rest, **options):
        if name.startswith("matplotlib"):
            raise ImportError(name)
        return real_import(name, *rest, **options)

    monkeypatch.setattr(builtins, "__import__", without_matplotlib)
    with pytest.raises(MissingExtra, match="the histogram picture needs packages that are not installed") as caught:
        draw_histograms(training_set([1]), tmp_path / "histograms.png")
    assert caught.value.hint == install_command("demo")
    assert not list(tmp_path.iterdir())


def test_the_counts_are_json() -> None:
    histograms = count_views(training_set([1, None, 40]))

    assert json.loads(json.dumps(histograms)) == histograms
