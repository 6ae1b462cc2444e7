"""The demo runs from end to end, and what it leaves is what a plain reading of its source files gives."""

import json
from bisect import bisect_left, bisect_right
from collections import defaultdict

import pyarrow.parquet as pq
import pytest

from asof.demo import story
from asof.demo.repository import TRAINING_COLUMNS
from asof.timing import DAY, HOUR, floor_to

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    output = tmp_path_factory.mktemp("demo")
    said = []
    report = story.run(output, users=300, ticks=20_000, seed=3, say=said.append)
    return output, report, "\n".join(said)


def expected_rows(folder):
    """Every order's features, read off the source files by the words of the semantics alone."""
    users = {row["user_id"]: row for row in pq.read_table(folder / "users.parquet").to_pylist()}
    events = defaultdict(list)
    for row in pq.read_table(folder / "traffic.parquet").to_pylist():
        events[row["user_id"]].append((row["timestamp"] * 1000, row["page"]))
    for order in pq.read_table(folder / "orders.parquet").to_pylist():
        t = round(order["ordered_at"].timestamp() * 1_000_000)
        seen = events[order["user_id"]]
        times = [time for time, _ in seen]
        before = seen[: bisect_right(times, t)]
        session = []
        after = t
        for time, page in reversed(before):
            if after - time > HOUR:
                break
            session.append(page)
            after = time
        listing, product, photo = (session.count(page) for page in ("listing_page", "product_page", "photo_page"))
        looked_at = listing + product + photo

        def since(length, hop, times=times, before=before, t=t):
            return before[bisect_left(times, floor_to(t - length, hop)) :]

        last_hour = since(HOUR, 5 * 60_000_000)
        yield {
            "user_id": order["user_id"],
            "order_id": order["order_id"],
            "event_timestamp": order["ordered_at"],
            "session_listing_page_views": listing,
            "session_product_page_views": product,
            "session_photo_page_views": photo,
            "country": users[order["user_id"]]["country"],
            "platform": users[order["user_id"]]["platform"],
            "views_1d": len(since(DAY, HOUR)),
            "views_7d": len(since(7 * DAY, HOUR)),
            "last_page_1h": last_hour[-1][1] if last_hour else None,
            "product_per_listing": product / listing if listing else None,
            "photo_share": photo / looked_at if looked_at else None,
        }


def test_the_training_set_is_what_the_source_files_say(demo):
    output, _, _ = demo

    found = pq.read_table(output / "training_set.parquet")

    assert found.column_names == list(TRAINING_COLUMNS)
    assert found.to_pylist() == list(expected_rows(output / "source"))
    assert found.num_rows > 500


def test_it_leaves_what_it_promises(demo):
    output, report, _ = demo

    for name in ("repo/feature_store.yaml", "repo/features.py", "source/users.parquet", "source/orders.parquet",
                 "source/traffic.parquet", "training_set.parquet", "histograms.png", "report.json", "report.html"):  # fmt: skip
        assert (output / name).stat().st_size > 100, name
    assert (output / "histograms.png").read_bytes().startswith(b"\x89PNG")
    assert json.loads((output / "report.json").read_text())["training_set"]["rows"] == report["training_set"]["rows"]


def test_serving_agrees_with_history_on_many_active_keys(demo):
    _, report, _ = demo

    assert report["audit"]["differences"] == []
    assert report["audit"]["equal"] == report["audit"]["values"] > 0
    assert report["audit"]["active_keys"] >= 100


def test_a_few_more_events_change_what_is_served(demo):
    _, report, _ = demo
    before, after = report["online"]["before"], report["online"]["after"]

    assert [row["user_id"] for row in before] == [row["user_id"] for row in after]
    assert all(late["views_7d"] > early["views_7d"] for early, late in zip(before, after, strict=True))
    assert all(row["session_photo_page_views"] > 0 for row in after)


def test_the_story_is_told_with_the_histograms(demo):
    _, _, said = demo

    for words in ("Plan and apply", "Stream the traffic", "Build the training set", "Serve some users", "Audit", "█"):
        assert words in said


def test_it_can_be_told_again_in_the_same_folder(demo, tmp_path):
    again = story.run(tmp_path, users=40, ticks=3000, seed=3, say=lambda _: None)
    once_more = story.run(tmp_path, users=40, ticks=3000, seed=3, say=lambda _: None)

    assert again["training_set"] == once_more["training_set"]
