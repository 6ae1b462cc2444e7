"""Functions that were applied, and functions that changed since: what plan, reads, servers and doctor say."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from asof import FeatureStore
from asof.definitions.identity import objects
from asof.errors import CheckFailed, FunctionChanged
from asof.planning import Create, NewFunction, Plan, Update
from asof.registry.protocol import checksum
from asof.server.app import App
from asof.server.process.service import Service
from asof.server.settings import ServerSettings

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
RATES = "import math\nRATE = 20\ndef rated(x):\n    return None if x is None else x * RATE\n"
FEATURES = """
from asof import *
from asof.types import *
import pandas
from rates import rated
user = Entity("user", join_keys=["user_id"])
sales = FileSource("sales.parquet", name="sales", timestamp_field="at")
latest = FeatureView("latest", entities=[user], source=sales, schema=[Field("price", Int64)])

@on_demand_feature_view(sources=[latest], schema=[Field("due", Int64)], mode="python")
def owed(row):
    pandas.NA
    return {"due": rated(row["price"])}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "feature_store.yaml").write_text("project: shop\nonline_store:\n  type: sqlite\n")
    at = pa.array([NOON], pa.timestamp("us", "UTC"))
    pq.write_table(pa.table({"user_id": [1], "price": [1], "at": at}), tmp_path / "sales.parquet")
    (tmp_path / "features.py").write_text(FEATURES)
    (tmp_path / "rates.py").write_text(RATES)
    with opened(tmp_path) as store:
        store.apply()
        store.materialize()
    return tmp_path


def opened(folder: Path) -> FeatureStore:
    return FeatureStore(folder, clock=lambda: NOON)


def change(folder: Path, rate: int) -> None:
    (folder / "rates.py").write_text(RATES.replace("20", str(rate)))


def shown(plan: Plan) -> str:
    lines = [str(line) for each in plan.changes if isinstance(each, Create | Update) for line in each.fields]
    return "\n".join(lines)


def owed_in_training(store: FeatureStore) -> list[Any]:
    frame = pa.table({"user_id": [1], "event_timestamp": pa.array([NOON], pa.timestamp("us", "UTC"))})
    due: list[Any] = store.get_historical_features(frame, ["owed:due"]).to_arrow()["due"].to_pylist()
    return due


def owed_online(store: FeatureStore) -> list[Any]:
    due: list[Any] = store.get_online_features(["owed:due"], [{"user_id": 1}]).to_dict()["due"]
    return due


def test_plan_names_the_constant_that_changed(folder: Path) -> None:
    change(folder, 30)
    with opened(folder) as store:
        plan = store.plan()
        assert [type(each) for each in plan.changes][1:] == [NewFunction]
        assert "constant 'rates.RATE'" in shown(plan)
        store.apply(plan)
        assert store.plan().is_empty
        assert owed_in_training(store) == owed_online(store) == [30]


def test_reads_refuse_a_function_whose_constant_is_not_the_one_that_was_applied(folder: Path) -> None:
    change(folder, 30)
    with opened(folder) as store:
        for read in (owed_in_training, owed_online):
            with pytest.raises(FunctionChanged, match="differs from the applied one: constant 'rates.RATE'"):
                read(store)


def test_a_running_server_takes_over_what_was_applied_and_never_keeps_the_old_meaning(folder: Path) -> None:
    async def ask(made: httpx.AsyncClient) -> httpx.Response:
        body = {"features": ["owed:due"], "entities": {"user_id": [1]}}
        return await made.post("/get-online-features", content=json.dumps(body))

    async def run() -> list[Any]:
        service = Service(opened(folder), ServerSettings(registry_refresh_s=0.05))
        app = App(service)
        await service.start()
        found: list[Any] = []
        try:
            transport = httpx.ASGITransport(app)
            async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as made:
                found.append((await ask(made)).json()["results"][-1]["values"])
                change(folder, 30)
                with opened(folder) as store:
                    store.apply()
                await service.reading.refresh()
                found.append((await ask(made)).json()["results"][-1]["values"])
                # Applied from elsewhere, while the files here are those of before.
                change(folder, 40)
                with opened(folder) as store:
                    store.apply()
                change(folder, 30)
                await service.reading.refresh()
                refused = await ask(made)
                found += [refused.status_code, refused.text, (await made.get("/ready")).json()["warnings"]]
        finally:
            await service.stop()
        return found

    before, after, status, text, warnings = asyncio.run(run())
    assert (before, after) == ([20], [30])
    assert status == 503
    assert "differs from the applied one: constant 'rates.RATE'" in text
    assert warnings == ["on-demand feature view 'owed': constant 'rates.RATE' differs from the applied one"]


def test_doctor_names_the_constant_that_changed(folder: Path) -> None:
    change(folder, 30)
    with opened(folder) as store:
        (check,) = [each for each in store.doctor() if each.part == "functions"]
    assert not check.ok
    assert "constant 'rates.RATE' differs from the applied one" in check.text


def test_another_version_of_a_package_warns_and_refuses_nothing(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(objects, "version", lambda name: "1.2.3")
    with opened(folder) as store:
        said = "pandas is 1.2.3 here"
        assert owed_in_training(store) == owed_online(store) == [20]
        plan = store.plan()
        assert not [each for each in plan.changes if isinstance(each, NewFunction)]
        assert [each.severity for each in plan.findings if said in each.found] == ["warning"]
        (check,) = [each for each in store.doctor() if each.part == "functions"]
        assert check.ok
        assert said in check.text

        async def state() -> dict[str, Any]:
            service = Service(store)
            await service.reading.load()
            return service.state()

        ready = asyncio.run(state())
        assert ready["status"] == "ready"
        assert said in ready["warnings"][0]
        store.apply(plan)
        assert not [each for each in store.plan().findings if each.severity == "warning"]


def test_what_cannot_be_compared_is_refused_by_plan(folder: Path) -> None:
    (folder / "rates.py").write_text(
        "class Model:\n    pass\nM = Model()\ndef rated(x):\n    return bool(M) + (x or 0)\n"
    )
    with opened(folder) as store:
        (error,) = store.plan().errors
        assert "its function uses 'rates.M', which is a Model" in error.found
        assert "version=" in error.hint
        with pytest.raises(CheckFailed):
            store.apply()


def forget_identities(folder: Path) -> None:
    """Make the registry what an earlier Asof wrote: functions known by their text alone."""
    (path,) = folder.glob("data/registry*.db")
    with closing(sqlite3.connect(path)) as connection, connection:
        tables = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        for table in tables:
            columns = [row[1] for row in connection.execute(f"PRAGMA table_info({table})")]
            if "content" not in columns:
                continue
            for row, content in connection.execute(f"SELECT rowid, content FROM {table}").fetchall():
                snapshot = json.loads(content)
                for view in snapshot["project"]["on_demand_views"]:
                    view.pop("identity", None)
                text = json.dumps(snapshot, sort_keys=True)
                connection.execute(f"UPDATE {table} SET content = ? WHERE rowid = ?", (text, row))
                connection.execute(f"UPDATE {table} SET checksum = ? WHERE rowid = ?", (checksum(text), row))


def test_a_registry_of_an_earlier_asof_is_read_as_before_until_the_next_apply(folder: Path) -> None:
    forget_identities(folder)
    with opened(folder) as store:
        assert owed_in_training(store) == owed_online(store) == [20]
        plan = store.plan()
        assert not [each for each in plan.changes if isinstance(each, NewFunction)]
        assert "known by: its text → its text, and the constants and functions that it uses" in shown(plan)
        store.apply(plan)
        assert store.plan().is_empty
    change(folder, 30)
    with opened(folder) as store:
        assert "constant 'rates.RATE'" in shown(store.plan())


def test_a_saved_training_set_of_an_earlier_asof_has_the_same_function(folder: Path) -> None:
    forget_identities(folder)
    frame = pa.table({"user_id": [1], "event_timestamp": pa.array([NOON], pa.timestamp("us", "UTC"))})
    with opened(folder) as store:
        store.get_historical_features(frame, ["owed:due"]).save("before")
        store.apply()
        again = store.rebuild_training_set("before")
    assert again["equal"]
    assert again["why"] == []


def test_a_constant_set_anew_in_a_notebook_is_refused_until_it_is_applied(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "cells.py").write_text(
        FEATURES.replace("from rates import rated", "RATE = 20")
        .replace('rated(row["price"])', 'None if row["price"] is None else row["price"] * RATE')
        .replace("owed", "given")
    )
    (folder / ".asofignore").write_text("cells.py\n")
    monkeypatch.syspath_prepend(str(folder))
    import cells  # type: ignore[import-not-found]  # written above

    def given(store: FeatureStore) -> list[Any]:
        due: list[Any] = store.get_online_features(["given:due"], [{"user_id": 1}]).to_dict()["due"]
        return due

    with opened(folder) as store:
        store.apply([cells.given])
        assert given(store) == [20]
        cells.RATE = 30
        with pytest.raises(FunctionChanged, match="differs from the applied one: constant 'RATE'"):
            given(store)
        plan = store.plan([cells.given])
        assert "constant 'RATE'" in shown(plan)
        store.apply(plan)
        assert given(store) == [30]


def test_a_function_may_import_its_repository_when_it_runs(folder: Path) -> None:
    text = FEATURES.replace("from rates import rated\n", "").replace("    pandas.NA\n", "    from rates import rated\n")
    (folder / "features.py").write_text(text)
    with opened(folder) as store:
        store.apply()
        assert owed_in_training(store) == owed_online(store) == [20]
    change(folder, 30)
    with opened(folder) as store:
        assert "function 'rates.rated'" not in shown(store.plan())
        assert "constant 'rates.RATE'" in shown(store.plan())
