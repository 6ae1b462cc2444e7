"""Every snippet of the catalog runs as it is shown: Python and shell in the repository's folder, HTTP against a server."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import chdir
from dataclasses import replace
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from asof import FeatureStore
from asof.catalog.health_index import HealthIndex
from asof.catalog.index import CatalogIndex
from asof.catalog.pages.page import PageRequest
from asof.catalog.pages.sections.examples import example_row, snippet_subject
from asof.catalog.snippets import Snippet, SnippetSubject, snippets_of
from asof.catalog.viewer import Owner
from asof.definitions import Snapshot
from asof.server.security.keys import new_key
from asof.store import open_store_of
from tests.catalog_site import PatientValues

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
ODD = 'it\'s "odd" $HOME `x` é\\n'
"""A name, and a value, that each quoting has to get right."""

DEFINITIONS = f"""
from asof import *
from asof.types import *
from datetime import timedelta
from decimal import Decimal as D

ODD = {ODD!r}
user = Entity("user", join_keys=["user_id"])
place = Entity("place", join_keys=["shop", "day"])
rows = FileSource("profile.parquet", name="rows", timestamp_field="at", field_mapping={{"uid": "user_id"}})
places = FileSource("places.parquet", name="order", timestamp_field="at")
traffic = LogSource("traffic", schema=[Field("user_id", Int64), Field("at", Int64)], timestamp_field="at",
    timestamp_unit="ms")
profile = FeatureView("profile", entities=[user], source=rows,
    schema=[Field("user_id", Int64), Field("age", Int64), Field(ODD, String)])
shops = FeatureView("shops", entities=[place], source=places,
    schema=[Field("shop", String), Field("day", Date), Field("age", Int64)])
counts = FeatureView("counts", entities=[user], source=traffic,
    aggregations=[Aggregation("", "count", window=Sliding("7d"), name="n")])
total = FeatureView("total", source=traffic, aggregations=[Aggregation("", "count", name="all")])
stored = FeatureView("stored", entities=[user], source=rows, online=False,
    schema=[Field("user_id", Int64), Field("age", Int64)])
request = RequestSource("now", schema=[Field("amount", Decimal(12, 2)), Field("seen", Timestamp), Field("note", String),
    Field("sizes", Array(Int64))])

@on_demand_feature_view(sources=[profile, request], schema=[Field("older", Float64)], mode="python")
def ratios(row):
    return {{"older": float(row["age"] or 0) + float(row["amount"]) + len(row["sizes"] or [])}}

both = FeatureService("both", features=[profile, shops, counts, total])
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("snippets")
    (folder / "feature_store.yaml").write_text("project: shop\nclock: 2026-01-01T12:00:00Z\n")
    (folder / "features.py").write_text(DEFINITIONS)
    at = pa.array([NOW, NOW], pa.timestamp("us", "UTC"))
    pq.write_table(pa.table({"uid": [7, 8], "age": [None, 30], ODD: [None, ODD], "at": at}), folder / "profile.parquet")
    pq.write_table(
        pa.table({"shop": ["a", ODD], "day": [date(2026, 1, 1)] * 2, "age": [0, 5], "at": at}),
        folder / "places.parquet",
    )
    with FeatureStore(folder) as store:
        store.apply()
        store.materialize()
        millis = int(NOW.timestamp() * 1000)
        store.send("traffic", [json.dumps({"user_id": 8, "at": millis - each}).encode() for each in range(3)])
        store.stream_run(until_caught_up=True)
    return folder


@pytest.fixture
def store(folder: Path) -> Iterator[FeatureStore]:
    with FeatureStore(folder) as store:
        yield store


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[str]:
    yield from _server(folder)


def _server(folder: Path) -> Iterator[str]:
    """The address of a server of the repository."""
    command = [sys.executable, "-m", "asof", "ui", "--no-browser"]
    process = subprocess.Popen(command, cwd=folder, stderr=subprocess.PIPE, text=True, env=_environment(folder))
    try:
        assert process.stderr is not None
        for line in process.stderr:
            if found := re.search(r"http://[\d.]+:\d+", line):
                yield found[0]
                return
        raise AssertionError("the server did not start")
    finally:
        process.terminate()
        process.wait(60)


def _environment(folder: Path, **more: str) -> dict[str, str]:
    return {**os.environ, "HOME": str(folder), "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", **more}


def _request(store: FeatureStore) -> PageRequest:
    snapshot: Snapshot = open_store_of(store).snapshot()
    live = PatientValues()
    return PageRequest(store, CatalogIndex(snapshot), live, HealthIndex(store), Owner(), (), {}, store.now())


def subject_of(store: FeatureStore, name: str, server: str = "http://localhost:1") -> SnippetSubject:
    """The subject of a feature `view:feature`, or of a service."""
    request = _request(store)
    if ":" in name:
        view = request.index.view(name.partition(":")[0])
        assert view is not None
        subject = snippet_subject(request, example_row(request, [view]), [view], features=[name])
    else:
        service = request.index.project.services[name]
        subject = snippet_subject(request, example_row(request, service.features), service.features, service=service)
    request.live.close()
    return replace(subject, server=server)


REFERENCES = (
    "profile:age",
    f"profile:{ODD}",
    "shops:age",
    "counts:n",
    "total:all",
    "ratios:older",
    "stored:age",
    "both",
)


@pytest.mark.parametrize("name", REFERENCES)
def test_each_snippet_runs_and_reads_what_the_store_reads(
    name: str, store: FeatureStore, folder: Path, server: str
) -> None:
    subject = subject_of(store, name, server)
    snippets = {each.id: each for each in snippets_of(subject)}
    assert all(each.text.endswith("\n") for each in snippets.values())
    row = {key: each.value for key, each in subject.row.items()}
    asked = name if ":" not in name else [name]
    frame = pa.table({**{key: [value] for key, value in row.items()}, "event_timestamp": [NOW]})
    for key, each in subject.row.items():
        frame = frame.set_column(frame.schema.get_field_index(key), key, pa.array([each.value], each.dtype.arrow()))
    history = store.get_historical_features(frame, asked, subject.full_names).to_arrow()
    expected = [column for column in history.column_names if column not in frame.column_names]

    ran = run_python(snippets["train-frame"], folder)
    table = pa.Table.from_pandas(ran["training"], preserve_index=False)
    assert [table[column][0].as_py() for column in expected] == [history[column][0].as_py() for column in expected]
    assert (subject.sql is None) == (name == "both")
    if "train-sql" in snippets:
        for each in ("train-sql", "train-save"):
            training = run_python(snippets[each], folder)["training"]
            assert len(training) and set(expected) <= set(training.columns), each
        run_shell(snippets["train-cli"], folder)
        table = pq.read_table(folder / "training.parquet")
        assert table.num_rows and set(expected) <= set(table.column_names)
        (folder / "training.parquet").unlink()
    if name == "stored:age":
        assert not [each for each in snippets if each.startswith("serve")]
        return
    online = store.get_online_features(asked, [row], subject.full_names).to_dict()
    for each in ("serve-python", "serve-client"):
        assert run_python(snippets[each], folder)["response"].to_dict() == online
    found = json.loads(run_shell(snippets["serve-http"], folder))
    values = dict(zip(found["names"], found["rows"][0], strict=True))
    assert {column: values[column] for column in expected} == {column: online[column][0] for column in expected}
    found = json.loads(
        run_shell(replace(snippets["serve-cli"], text=f"ASOF_OUTPUT=json {snippets['serve-cli'].text}"), folder)
    )
    assert all(
        str(online[column][0]) in json.dumps(found, ensure_ascii=False)
        for column in expected
        if online[column][0] != ODD
    )


def run_python(snippet: Snippet, folder: Path) -> dict[str, Any]:
    """The names that a Python snippet leaves."""
    names: dict[str, Any] = {}
    with chdir(folder):
        exec(compile(snippet.text, snippet.id, "exec"), names)
    if "store" in names:
        names["store"].close()
    return names


def run_shell(snippet: Snippet, folder: Path, **environment: str) -> str:
    """The standard output of a shell snippet."""
    done = subprocess.run(
        ["bash", "-e", "-c", snippet.text], cwd=folder, capture_output=True, text=True, timeout=120,
        env=_environment(folder, **environment),
    )  # fmt: skip
    assert done.returncode == 0, f"{snippet.text}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def test_the_example_is_a_real_key_and_one_with_values(store: FeatureStore) -> None:
    row = example_row(_request(store), [store.get_feature_view("profile")])
    assert (row.keys["user_id"].value, row.note) == (8, "")
    places = example_row(_request(store), [store.get_feature_view("shops")])
    assert {name: each.value for name, each in places.keys.items()} == {"shop": ODD, "day": date(2026, 1, 1)}
    stored = example_row(_request(store), [store.get_feature_view("stored")])
    assert stored.keys["user_id"].value == 1 and stored.note == "stored is not served online: this key is made up."


def test_a_server_with_keys_is_asked_with_one(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    key = new_key()
    for name in ("features.py", "profile.parquet", "places.parquet"):
        shutil.copy(folder / name, tmp_path)
    auth = f"auth: {{keys: [{{id: {key.id}, hash: '{key.hash}', name: reader, roles: [read]}}]}}"
    (tmp_path / "feature_store.yaml").write_text(f"project: shop\nclock: 2026-01-01T12:00:00Z\n{auth}\n")
    with FeatureStore(tmp_path) as store:
        store.apply()
        store.materialize()
        for address in _server(tmp_path):
            monkeypatch.setenv("ASOF_API_KEY", key.text)
            snippets = {each.id: each for each in snippets_of(subject_of(store, "profile:age", address))}
            found = json.loads(run_shell(snippets["serve-http"], tmp_path, ASOF_API_KEY=key.text))
            assert found["rows"] == [[8, 30]]
            assert run_python(snippets["serve-client"], tmp_path)["response"].to_dict()["age"] == [30]
