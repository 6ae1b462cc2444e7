"""Drawings are valid XML for any name, without styles or scripts, and show what they say."""

from __future__ import annotations

import re
from pathlib import Path
from xml.etree import ElementTree

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import asof.catalog
from asof.catalog.drawings.layout import layered
from asof.catalog.drawings.lineage import lineage_mermaid, lineage_svg
from asof.catalog.drawings.markup import element, shortened, text_of
from asof.display import cells_of
from asof.lineage import LineageGraph, LineageItem, LineageNode
from asof.lineage.neighbourhood import neighbourhood_of
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

    @settings(max_examples=200)
    @given(st.text(max_size=80))
    def test_any_text_can_be_parsed(self, name: str) -> None:
        ElementTree.fromstring(element("g", name, title=name))

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
