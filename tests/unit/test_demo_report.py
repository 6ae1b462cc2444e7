"""The demo's report shows all it was given, escaped, in one page that needs nothing else."""

from __future__ import annotations

import json
import re
from datetime import UTC, date, datetime
from decimal import Decimal
from html.parser import HTMLParser
from math import hypot, inf, nan
from pathlib import Path

import pyarrow as pa
import pytest

from asof.demo.histograms import PANELS, count_views
from asof.demo.pictures import NARROW, WIDE, DiagramLayout, draw_state_machine, percent
from asof.demo.report import Report, write_json, write_report
from asof.demo.shop import TRANSITIONS

NOON = datetime(2020, 9, 14, 12, tzinfo=UTC)
VOID = {"meta", "br"}


class Page(HTMLParser):
    """Checks that every tag is closed in order, and gathers tags, attributes, ids and the text that is shown."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.shown: list[str] = []
        self.feed(text)
        self.close()
        assert not self.open, f"left open: {self.open}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] not in ("style", "title", "desc"):
            self.shown.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.shown).split())


def a_report() -> Report:
    views = {name: pa.array([1, 1, 2, 14]) for name in PANELS}
    before = {"user_id": 7, "country": "Poland", "views_1d": 3, "last_page_1h": None}
    return Report(
        project="shop-of-the-demo",
        clock="2020-10-18T05:46:40Z",
        seed=7531,
        sizes={"users": 1234, "ticks": 50_000},
        steps=[
            {"name": "Simulate", "text": "Users walk.", "seconds": 1.234, "rows": 43_428},
            {"name": "Apply", "text": "The registry knows.", "seconds": 0.0, "rows": None},
        ],
        training_set={
            "rows": 7571,
            "columns": ["order_id", "event_timestamp", "ratio"],
            "preview": [{"order_id": 815, "event_timestamp": NOON, "ratio": 1 / 3}],
        },
        histograms=count_views(pa.table(views)),
        online={
            "key": "user_id",
            "events": 5,
            "before_at": "2020-10-18T05:46:40Z",
            "after_at": "2020-10-18T05:51:40Z",
            "before": [before],
            "after": [{**before, "views_1d": 8, "last_page_1h": "photo_page"}],
        },
        audit={"keys": 201, "active_keys": 131, "values": 2010, "equal": 2010, "differences": []},
        servers={"Kafka": "broker.example:9092"},
        next_commands=[{"command": "asof audit --keys 999", "text": "Audit more keys"}],
    )


def page_of(report: Report, folder: Path) -> str:
    write_report(report, folder / "report.html")
    return (folder / "report.html").read_text(encoding="utf-8")


def test_everything_given_is_shown(tmp_path) -> None:
    text = Page(page_of(a_report(), tmp_path)).text

    for given in (
        "shop-of-the-demo", "2020-10-18T05:46:40Z", "7531", "1,234", "Simulate", "Users walk.", "1.23 s", "43,428 rows",
        "Apply", "7,571 rows and 3 columns", "event_timestamp", "815", "2020-09-14 12:00:00.000Z", "0.3333",
        "Listing pages", "Photo pages", "N = 4 orders", "user_id 7", "5 events in between: 2 values changed",
        "201 keys were read", "131 of them with a non-zero window", "All 2,010 values are equal.",
        "Audit more keys", "asof audit --keys 999", "Kafka at broker.example:9092",
    ):  # fmt: skip
        assert given in text, given


def test_the_page_is_well_formed_and_every_reference_inside_it_leads_somewhere(tmp_path) -> None:
    page = Page(page_of(a_report(), tmp_path))
    ids = [value for name, value in page.attributes if name == "id"]
    labels = [part for name, value in page.attributes if name == "aria-labelledby" for part in (value or "").split()]
    tips = [value[5:-1] for name, value in page.attributes if name == "marker-end" and value]

    assert len(ids) == len(set(ids))
    assert labels and set(labels) <= set(ids) and tips and set(tips) <= set(ids)
    assert page.tags.count("svg") == 2 + len(PANELS) and page.tags.count("h1") == 1


def test_nothing_is_fetched_from_elsewhere(tmp_path) -> None:
    text = page_of(a_report(), tmp_path)
    page = Page(text)

    assert not re.search(r"https?:|//[a-z]|@import|url\((?!#)|\{\{|\}\}", text)
    assert not {"script", "link", "img", "iframe", "object"} & set(page.tags)
    assert not {"src", "href"} & {name for name, _ in page.attributes}


def test_all_text_is_escaped(tmp_path) -> None:
    evil = "<script>alert('\"&')</script>"
    report = a_report()
    report["project"] = report["clock"] = evil
    report["sizes"] = {evil: 1}
    report["steps"] = [{"name": evil, "text": evil, "seconds": 1.0, "rows": 1}]
    report["training_set"] = {"rows": 1, "columns": [evil], "preview": [{evil: evil}]}
    report["histograms"] = {evil: {**next(iter(report["histograms"].values())), "title": evil}}
    report["online"] |= {
        "before_at": evil,
        "after_at": evil,
        "key": evil,
        "before": [],
        "after": [{evil: evil, "<b>": 1}],
    }
    report["audit"] |= {"equal": 0, "differences": [{evil: evil}]}
    report["next_commands"] = [{"command": evil, "text": evil}]
    page = Page(page_of(report, tmp_path))

    assert "script" not in page.tags and "b" not in page.tags
    assert page.text.count(evil) >= 12


def test_only_changed_values_are_marked(tmp_path) -> None:
    text = page_of(a_report(), tmp_path)
    marked = re.findall(r'<tr class="changed"><th scope="row">(\w+)</th>(.*?)</tr>', text)

    assert [name for name, _ in marked] == ["views_1d", "last_page_1h"]
    assert marked[0][1] == "<td>3</td><td>8</td>"


def test_unequal_values_are_said_and_listed(tmp_path) -> None:
    report = a_report()
    report["audit"] |= {"equal": 2009, "differences": [{"feature": "views_1d", "cause": "a late event"}]}
    text = Page(page_of(report, tmp_path)).text

    assert "1 of 2,010 values differ." in text and "a late event" in text
    assert "are equal" not in text


def test_many_served_rows_are_cut_and_the_rest_is_counted(tmp_path) -> None:
    report = a_report()
    report["online"]["after"] = [{"user_id": user, "views_1d": 1} for user in range(40)]
    text = Page(page_of(report, tmp_path)).text

    assert "user_id 11" in text and "user_id 12" not in text and "28 more rows in report.json." in text


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (None, "null"), (True, "true"), (2.0, "2"), (0.0, "0"), (1234567.25, "1234567.25"), (0.000012, "1.2e-05"),
        (100.0, "100"), (nan, "nan"), (inf, "inf"), (2**60, str(2**60)), (NOON, "2020-09-14 12:00:00.000Z"), ("", ""),
    ],
)  # fmt: skip
def test_values_are_written_for_people(tmp_path, value, shown: str) -> None:
    report = a_report()
    report["training_set"] = {"rows": 1, "columns": ["only"], "preview": [{"only": value}]}

    assert re.search(
        rf"<tbody><tr><td[^>]*>(<span[^>]*>)?{re.escape(shown)}(</span>)?</td></tr>", page_of(report, tmp_path)
    )


def test_an_empty_story_is_still_a_page(tmp_path) -> None:
    report = a_report()
    report |= {
        "steps": [],
        "servers": {},
        "next_commands": [],
        "histograms": count_views(pa.table({n: pa.array([], pa.int64()) for n in PANELS})),
    }
    report["training_set"] = {"rows": 0, "columns": [], "preview": []}
    report["online"] |= {"before": [], "after": []}

    assert "N = 0 orders" in Page(page_of(report, tmp_path)).text


def test_the_json_reads_back_as_what_was_given(tmp_path) -> None:
    report = a_report()
    write_json(report, tmp_path / "report.json")
    read = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))

    assert set(read) == set(Report.__required_keys__) == set(report)
    assert read["training_set"]["preview"][0]["event_timestamp"] == "2020-09-14T12:00:00Z"
    assert read["histograms"] == report["histograms"] and read["online"]["after"] == report["online"]["after"]


def test_values_that_json_lacks_become_null_or_text(tmp_path) -> None:
    report = a_report()
    odd = {
        "nan": nan,
        "inf": inf,
        "day": date(2020, 9, 14),
        "decimal": Decimal("1.50"),
        "bytes": b"\xff",
        "list": (1, nan),
    }
    report["training_set"]["preview"] = [odd]
    write_json(report, tmp_path / "report.json")
    read = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))["training_set"]["preview"][0]

    assert read == {
        "nan": None,
        "inf": None,
        "day": "2020-09-14",
        "decimal": "1.50",
        "bytes": "b'\\xff'",
        "list": [1, None],
    }


@pytest.mark.parametrize("layout", [WIDE, NARROW], ids=lambda layout: layout.name)
def test_the_state_machine_shows_each_state_and_chance_and_no_labels_overlap(layout: DiagramLayout) -> None:
    picture = draw_state_machine(layout)
    chances = re.findall(r'<text class="chance" x="([\d.]+)" y="([\d.]+)">([^<]+)<', picture)
    states = re.findall(r'<text class="state" x="(\d+)" y="(\d+)">(\w+)<', picture)
    wanted = [percent(chance) for nexts in TRANSITIONS.values() for chance in nexts.values()]

    assert [state for _, _, state in states] == list(TRANSITIONS)
    assert [text for _, _, text in chances] == wanted and picture.count("marker-end") == len(wanted)
    positions = [(float(x), float(y)) for x, y, _ in chances]
    for place, (x, y) in enumerate(positions):
        assert 20 < x < layout.width - 20 and 10 < y < layout.height - 5
        assert all(hypot((x - x1) / 45, (y - y1) / 18) >= 1 for x1, y1 in positions[:place])
        assert all(abs(x - int(x1)) > 66 + 8 or abs(y - int(y1)) > 21 + 6 for x1, y1, _ in states)


@pytest.mark.parametrize(("chance", "text"), [(1.0, "100%"), (0.0001, "0.01%"), (0.5, "50%"), (0.09, "9%")])
def test_chances_are_written_as_percent(chance: float, text: str) -> None:
    assert percent(chance) == text
