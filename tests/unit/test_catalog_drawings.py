"""Drawings are valid XML for any name, without styles or scripts, and show what they say."""

from __future__ import annotations

import re
from datetime import timedelta
from pathlib import Path
from xml.etree import ElementTree

import jinja2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import asof.catalog
from asof import Aggregation, Entity, FeatureView, Field, FileSource, LogSource, Session, Sliding
from asof.catalog.drawings.bars import histogram_svg, share_text, top_values_svg
from asof.catalog.drawings.layout import layered
from asof.catalog.drawings.lineage import lineage_mermaid, lineage_svg
from asof.catalog.drawings.markup import element, shortened, text_of
from asof.catalog.drawings.series import series_svg, sparkline_svg
from asof.catalog.drawings.window import everything_timeline, session_timeline, sliding_timeline, window_svg
from asof.display import cells_of
from asof.lineage import LineageGraph, LineageItem, LineageNode
from asof.lineage.neighbourhood import neighbourhood_of
from asof.timing import DAY
from asof.types import Int64, Timestamp
from tests.oracle import events_in_window
from tests.unit.test_lineage_graph import PROJECT, SAVED, graphs

SVG = "{http://www.w3.org/2000/svg}"
CSS = (Path(asof.catalog.__file__).parent / "static" / "drawings.css").read_text(encoding="utf-8")

HOSTILE = [
    "<script>alert(1)</script>", "'\"&<>]]>", "a\x00b\x1bc\x08", "\ud800 lone", "\u202egnp.exe", "שלום עולם", "مرحبا",
    "👩‍👩‍👧‍👦" * 12, "x" * 200, "漢字" * 40, "e\u0301" * 50, "%22onload=alert(1)", "\ufffe\uffff", "--><!--", " ", "",
]  # fmt: skip


def href(item: LineageItem) -> str:
    return f"/ui/{item.id}"


def checked(svg: str) -> ElementTree.Element:
    """The drawing's root, once it is known that it is harmless and that the stylesheet knows its classes."""
    root = ElementTree.fromstring(svg)
    for each in root.iter():
        assert each.tag.startswith(SVG), each.tag
        assert each.tag.removeprefix(SVG) in {
            "svg",
            "g",
            "a",
            "title",
            "rect",
            "path",
            "text",
            "line",
            "circle",
            "tspan",
        }
        assert not {name for name in each.attrib if name == "style" or name.lower().startswith("on")}, each.attrib
        assert not {"fill", "stroke"} & set(each.attrib), "colours are the stylesheet's"
    assert root.get("aria-label") and root.get("role") in ("img", "group")
    width, height = float(root.get("width", "")), float(root.get("height", ""))
    for each in root.iter(f"{SVG}rect"):
        x, y, w, h = (float(each.get(name, "0")) for name in ("x", "y", "width", "height"))
        assert x >= 0 and y >= 0 and w >= 0 and h >= 0 and x + w <= width + 0.1 and y + h <= height + 0.1, each.attrib
    return root


def texts(root: ElementTree.Element, class_: str | None = None) -> list[str]:
    return [each.text or "" for each in root.iter(f"{SVG}text") if class_ in (None, each.get("class"))]


class TestMarkup:
    @pytest.mark.parametrize("name", HOSTILE, ids=range(len(HOSTILE)))
    def test_any_text_is_one_text(self, name: str) -> None:
        root = ElementTree.fromstring(element("g", name, class_=name, aria_label=name))

        assert list(root) == []
        for found in (root.text or "", root.get("class") or ""):
            assert len(found) == len(re.sub("[\u202a-\u202e\u2066-\u2069]", "", name))

    @settings(max_examples=200, deadline=None)
    @given(st.text(max_size=80))
    def test_any_text_can_be_parsed(self, name: str) -> None:
        ElementTree.fromstring(element("g", name, title=name))

    def test_templates_do_not_escape_it_again(self) -> None:
        template = jinja2.Environment(autoescape=True).from_string("{{ drawing }}{{ name }}")

        assert template.render(drawing=element("g", "a < b"), name="<b>") == "<g>a &lt; b</g>&lt;b&gt;"

    def test_text_is_escaped_once(self) -> None:
        assert text_of("a < b") == "a &lt; b"
        assert element("g", element("title", "a < b"), "c & d") == "<g><title>a &lt; b</title>c &amp; d</g>"

    @pytest.mark.parametrize("name", HOSTILE, ids=range(len(HOSTILE)))
    def test_a_shortened_text_has_its_beginning_and_its_end(self, name: str) -> None:
        short = shortened(name, 12)

        assert cells_of(short) <= 12
        head, dots, tail = short.partition("…")
        assert name.startswith(head) and name.endswith(tail)
        assert bool(dots) == (cells_of(name) > 12)


class TestLayout:
    @settings(max_examples=80, deadline=None)
    @given(st.integers(1, 30), st.lists(st.tuples(st.integers(0, 29), st.integers(0, 29)), max_size=80))
    def test_boxes_do_not_overlap_and_lines_lead_to_the_right(self, count: int, pairs: list[tuple[int, int]]) -> None:
        lines = list(
            dict.fromkeys(
                (str(min(pair)), str(max(pair))) for pair in pairs if pair[0] != pair[1] and max(pair) < count
            )
        )

        found = layered({str(box): 0 for box in range(count)}, lines)

        for start, end in lines:
            assert found.column[start] < found.column[end]
            assert len(found.bends[start, end]) == found.column[end] - found.column[start] - 1
        assert sorted(set(found.column.values())) == list(range(found.columns))
        for column in range(found.columns):
            rows = sorted(found.row[box] for box in found.column if found.column[box] == column)
            assert all(below - above >= 0.999 for above, below in zip(rows, rows[1:], strict=False))

    def test_lines_that_need_not_cross_do_not(self) -> None:
        found = layered({"a": 0, "b": 0, "x": 1, "y": 1}, [("a", "y"), ("b", "x")])

        assert (found.row["a"] < found.row["b"]) == (found.row["y"] < found.row["x"])

    def test_one_line_is_straight(self) -> None:
        found = layered({"a": 0, "b": 3, "c": 5}, [("a", "b"), ("b", "c"), ("a", "c")])

        assert found.columns == 3
        assert found.row["a"] == found.row["b"] == found.row["c"] or found.bends["a", "c"]

    def test_a_circle_ends(self) -> None:
        assert set(layered({"a": 0, "b": 0}, [("a", "b"), ("b", "a")]).column) == {"a", "b"}


class TestLineage:
    graph = LineageGraph(PROJECT, SAVED)

    def test_each_item_is_a_link_with_its_whole_name(self) -> None:
        found = self.graph.neighbourhood(LineageNode("feature", "spending:spent"), upstream=3, downstream=3)

        root = checked(lineage_svg(found, href))
        links = {each.get("href"): each for each in root.iter(f"{SVG}a")}

        assert set(links) == {href(item) for item in found.items}
        assert [each for each, link in links.items() if link.get("aria-current")] == ["/ui/feature/spending:spent"]
        assert links["/ui/column/orders:shop"].get("aria-label") == "column orders:shop, condition of the item in focus"
        assert len(list(root.iter(f"{SVG}path"))) == len(found.edges)
        assert root.get("role") == "group", "links of an image would not be read"

    def test_links_come_in_reading_order(self) -> None:
        root = checked(lineage_svg(self.graph.neighbourhood(LineageNode("view", "spending")), href))
        kinds = [(each.get("href") or "").split("/")[2] for each in root.iter(f"{SVG}a")]

        assert kinds[0] == "source" and kinds[-1] == "feature"
        assert kinds == sorted(kinds, key=["source", "entity", "column", "view", "feature"].index) or "entity" in kinds

    def test_a_column_says_what_the_focus_takes_from_it(self) -> None:
        root = checked(lineage_svg(self.graph.neighbourhood(LineageNode("feature", "spending:spent")), href))

        assert {"value · orders", "condition · orders"} <= set(texts(root, "note"))

    def test_an_item_without_a_page_is_no_link(self) -> None:
        found = self.graph.neighbourhood(LineageNode("view", "spending"))

        root = checked(lineage_svg(found, lambda item: None if item.kind == "column" else href(item)))

        assert not [each for each in root.iter(f"{SVG}a") if "column" in (each.get("href") or "")]
        assert "user_id" in texts(root, "name")

    @pytest.mark.parametrize("name", HOSTILE, ids=range(len(HOSTILE)))
    def test_hostile_names_are_text(self, name: str) -> None:
        focus, column = LineageNode("view", "v"), LineageNode("column", f"s:{name}")
        after = {focus: {}, column: {focus: (f"{name} of",)}}
        found = neighbourhood_of({focus: {column: (f"{name} of",)}, column: {}}, after, focus)

        root = checked(lineage_svg(found, lambda item: f"/ui?x={item.name}"))
        mermaid = lineage_mermaid(found, lambda item: f"/ui?x={item.name}")

        assert len(list(root.iter(f"{SVG}a"))) == 2
        assert all(cells_of(text) <= 28 for text in texts(root))
        assert mermaid.count("\n") == 8, "one line each, whatever the names"
        assert all(line.count('"') in (0, 2) for line in mermaid.splitlines())
        assert "<" not in mermaid

    @settings(max_examples=25, deadline=None)
    @given(graphs(), st.data())
    def test_any_neighbourhood_can_be_drawn(self, edges: tuple[dict, ...], data: st.DataObject) -> None:
        focus = data.draw(st.sampled_from(list(edges[0])))
        found = neighbourhood_of(*edges, focus, upstream=3, downstream=3)

        root = checked(lineage_svg(found, href))

        assert len(list(root.iter(f"{SVG}a"))) == len(found.items)

    def test_mermaid_says_the_same(self) -> None:
        found = self.graph.neighbourhood(LineageNode("view", "profile"), upstream=0)

        assert lineage_mermaid(found, href).splitlines() == [
            "flowchart LR",
            '    n0["view profile"]', '    n1["feature profile:plan"]', '    n2["feature profile:seats"]',
            "    n0 --> n1", "    n0 --> n2",
            '    click n0 "/ui/view/profile"', '    click n1 "/ui/feature/profile:plan"', '    click n2 "/ui/feature/profile:seats"',
            "    classDef focus stroke-width:3px", "    class n0 focus",
        ]  # fmt: skip


def test_the_stylesheet_has_both_modes_and_no_colour_outside_of_its_variables() -> None:
    light, dark = CSS.split("@media (prefers-color-scheme: dark)")
    names = set(re.findall(r"(--[a-z-]+):", light))

    assert set(re.findall(r"(--[a-z-]+):", dark)) <= names
    rules = re.sub(r"--[a-z-]+:[^;]*;", "", CSS)
    assert not re.findall(r"#[0-9a-f]{3,8}\b|rgb\(", rules)
    assert set(re.findall(r"var\((--(?:drawing-)?[a-z-]+)\)", CSS)) <= names


def drawn(svg: str, class_: str) -> list[ElementTree.Element]:
    return [each for each in checked(svg).iter() if class_ in (each.get("class") or "").split()]


USER = Entity(name="user", join_keys=["user_id"])
EVENTS = LogSource(
    "events", schema=[Field("user_id", Int64), Field("at", Timestamp), Field("x", Int64)], timestamp_field="at"
)
WINDOWS = [
    Sliding(timedelta(minutes=30)), Sliding("30d"), Sliding("1s"), Sliding("7d", "1d"), Sliding("1000ms", "1ms"), Sliding("400d", "7d"),
    Sliding("3us", "1us"), Session(timedelta(hours=1)), Session("1ms"), Session("400d"), None,
]  # fmt: skip


def counted_over(window: Sliding | Session | None, boundary: str, delay: str | None = None) -> FeatureView:
    made = Aggregation(function="count", name="n", window=window)
    return FeatureView("v", entities=[USER], source=EVENTS, aggregations=[made], boundary=boundary, delay=delay)


class TestWindows:
    @pytest.mark.parametrize("boundary", ["inclusive", "exclusive"])
    @pytest.mark.parametrize("window", WINDOWS, ids=str)
    def test_the_filled_events_are_those_that_the_semantics_count(
        self, window: Sliding | Session | None, boundary: str
    ) -> None:
        if isinstance(window, Sliding):
            line, _, end = sliding_timeline(window, boundary)
        else:
            line, end = session_timeline(window.gap, boundary) if window else everything_timeline(boundary)
        history = [{"event_time": time} for time in sorted(line.events)]

        expected = [row["event_time"] for row in events_in_window(history, window, end, boundary)]

        assert [time for time in sorted(line.events) if line.counts(time)] == expected
        assert 0 < len(expected) < len(history)
        assert end in line.events, "what is exactly at the moment is what people ask about"
        assert [line.x(time) for time in sorted(line.events)] == sorted(line.x(time) for time in line.events)

    @pytest.mark.parametrize("delay", [None, "2h", "1d12h"])
    @pytest.mark.parametrize("boundary", ["inclusive", "exclusive"])
    @pytest.mark.parametrize("window", WINDOWS, ids=str)
    def test_each_window_can_be_drawn(self, window: Sliding | Session | None, boundary: str, delay: str | None) -> None:
        svg = window_svg(counted_over(window, boundary, delay), "n")
        found = texts(checked(svg))

        assert len(drawn(svg, "counts")) > 1 and len(drawn(svg, "event")) > len(drawn(svg, "counts"))
        assert "the moment" in found
        assert any(text.startswith("delay ") for text in found) == (delay is not None)
        assert checked(svg).get("role") == "img"
        for each in checked(svg).iter(f"{SVG}text"):
            assert 0 <= float(each.get("x", "")) <= 760

    def test_real_durations_are_in_its_labels(self) -> None:
        found = texts(checked(window_svg(counted_over(Sliding("30m"), "inclusive"), "n")))

        assert {"30 minutes", "part of 1 minute", "14:39:00", "14:39:24", "15:09:24"} <= set(found)
        assert {"more than 1 hour", "open for 1 hour"} <= set(
            texts(checked(window_svg(counted_over(Session("1h"), "inclusive"), "n")))
        )

    @pytest.mark.parametrize("ttl", [None, "7d"])
    def test_of_latest_values_one_row_is_the_value(self, ttl: str | None) -> None:
        view = FeatureView(
            "v",
            entities=[USER],
            source=FileSource("f.parquet", timestamp_field="at"),
            schema=[Field("x", Int64)],
            ttl=ttl,
            delay="1h",
        )
        svg = window_svg(view, "x")

        assert len(drawn(svg, "counts")) == 2, "the row, and the legend's"
        assert ("at most 7 days old" in texts(checked(svg))) == (ttl is not None)

    def test_an_unknown_feature_is_an_error(self) -> None:
        with pytest.raises(KeyError, match="no feature 'm'"):
            window_svg(counted_over(None, "inclusive"), "m")


class TestBars:
    def test_bars_are_as_high_as_their_shares(self) -> None:
        svg = histogram_svg([(0, 1, 10), (1, 2, 30), (2, 9, 0)], title="Values of x")
        heights = [float(each.get("height", "")) for each in drawn(svg, "bar")]

        assert heights[1] == pytest.approx(3 * heights[0], abs=0.2)
        assert heights[2] == 0
        assert [each.text for each in checked(svg).iter(f"{SVG}title")] == [
            "0 to 1: 10 (25 %)",
            "1 to 2: 30 (75 %)",
            "2 to 9: 0 (0 %)",
        ]

    def test_a_bin_of_whole_numbers_is_named_by_them(self) -> None:
        svg = histogram_svg([(0, 0, 5), (0, 1, 3), (1, 2, 2), (2, 21, 1)], title="Values of x", whole=True)
        assert [each for each in texts(checked(svg)) if "%" not in each] == ["0", "1", "2", "3\N{EN DASH}21"]

    @settings(max_examples=60, deadline=None)
    @given(st.lists(st.floats(-1e300, 1e300), min_size=1, max_size=40), st.data())
    def test_any_histogram_can_be_drawn(self, edges: list[float], data: st.DataObject) -> None:
        edges = sorted({*edges, edges[0] + 1})
        counts = [data.draw(st.integers(0, 2**63)) for _ in edges[1:]]
        bins = list(zip(edges, edges[1:], counts, strict=False))

        root = checked(histogram_svg(bins, title="x", baseline=counts[::-1]))

        labels = sorted(
            (float(each.get("x", "")), each.get("text-anchor"), each.text or "")
            for each in root.iter(f"{SVG}text")
            if float(each.get("y", "")) > 180
        )
        ends = [
            x - {"start": 0, "middle": len(text) * 3.3, "end": len(text) * 6.6}[anchor or "start"]
            for x, anchor, text in labels
        ]
        starts = [
            x + {"start": len(text) * 6.6, "middle": len(text) * 3.3, "end": 0}[anchor or "start"]
            for x, anchor, text in labels
        ]
        assert all(left <= right for left, right in zip(starts, ends[1:], strict=False)), labels

    def test_without_values_it_says_so(self) -> None:
        assert texts(checked(histogram_svg([], title="x"))) == ["no values"]
        assert texts(checked(top_values_svg([], total=0, title="x"))) == ["no values"]

    def test_top_values_leave_a_rest(self) -> None:
        svg = top_values_svg([("a", 60), ("b", 30)], total=100, title="Top values of x")

        assert texts(checked(svg)) == ["a", "60 · 60 %", "b", "30 · 30 %", "all others", "10 · 10 %"]
        assert [float(each.get("width", "")) for each in drawn(svg, "bar")] == pytest.approx(
            [230, 115, 230 / 6], abs=0.1
        )
        assert "all others" not in texts(checked(top_values_svg([("a", 60)], total=60, title="x")))

    @pytest.mark.parametrize("name", HOSTILE, ids=range(len(HOSTILE)))
    def test_hostile_values_are_text(self, name: str) -> None:
        for svg in (top_values_svg([(name, 1)], total=1, title=name), histogram_svg([(0, 1, 1)], title=name, baseline=[1], baseline_name=name, shown=lambda _: name),
                    series_svg([(0, 1.0)], title=name, shown=lambda _: name), sparkline_svg([1.0], title=name or "x")):  # fmt: skip
            if name:
                checked(svg)

    @pytest.mark.parametrize(
        ("share", "text"),
        [(0, "0 %"), (1, "100 %"), (0.5, "50 %"), (0.1234, "12.3 %"), (0.0001, "< 0.1 %"), (0.001, "0.1 %")],
    )
    def test_shares_are_short(self, share: float, text: str) -> None:
        assert share_text(share) == text


class TestSeries:
    def test_a_gap_interrupts_the_line(self) -> None:
        svg = series_svg([(0, 1.0), (DAY, 2.0), (2 * DAY, None), (3 * DAY, 1.5)], title="Mean of x")
        [line] = drawn(svg, "trend")

        assert (line.get("d") or "").count("M") == 2
        assert len(drawn(svg, "dot")) == 3
        assert {"1970-01-01", "1970-01-04", "1", "1.5", "2"} == set(texts(checked(svg)))

    def test_the_range_is_at_least_the_one_that_was_asked_for(self) -> None:
        assert "100 %" in texts(checked(series_svg([(0, 0.02), (1, 0.03)], title="x", shown=share_text, low=0, high=1)))

    def test_a_range_with_a_least_value_does_not_go_below_it(self) -> None:
        assert set(texts(checked(series_svg([(0, 0.0), (1, 0.0)], title="x", shown=share_text, low=0)))) >= {
            "0 %",
            "100 %",
        }

    def test_lines_around_are_drawn_in_the_same_range(self) -> None:
        svg = series_svg([(0, 1.0), (DAY, 2.0)], title="x", around=[[0.0, None], [3.0, 4.0]])
        assert len(drawn(svg, "pale")) == 2
        assert {"0", "2", "4"} <= set(texts(checked(svg)))

    @settings(max_examples=60, deadline=None)
    @given(st.lists(st.none() | st.floats(), max_size=30))
    def test_any_series_can_be_drawn(self, values: list[float | None]) -> None:
        points = [(place * DAY, value) for place, value in enumerate(values)]
        checked(series_svg(points, title="x", around=[values[::-1]]))
        root = checked(sparkline_svg(values, title="x"))

        for each in root.iter(f"{SVG}circle"):
            assert 0 <= float(each.get("cx", "")) <= 110 and 0 <= float(each.get("cy", "")) <= 26
