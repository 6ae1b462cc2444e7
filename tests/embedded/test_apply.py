"""Apply checks first, builds beside, and switches everything at once; nothing is lost to a second writer."""

from datetime import UTC, datetime

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from asof import FeatureStore
from asof.cli.app import cli
from asof.cli.context import CliContext
from asof.errors import CheckFailed, DuplicateDefinition, NotFound, RegistryConflict, RepositoryError, RowsRefused
from asof.flows.facts import change_facts
from asof.store import open_store_of

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)

FEATURES = """
from asof import Aggregation, Entity, FeatureService, FeatureView, Field, FileSource, PushSource, Sliding
from asof.types import Int64, String

user = Entity(name="user", join_keys=["user_id"])
users = FileSource(name="users", path="users.parquet", timestamp_field="at", lag="1h")
profile = FeatureView(name="profile", entities=[user], source=users, schema=[Field("city", String)])
clicks = PushSource("clicks", [Field("user_id", Int64), Field("n", Int64), Field("ms", Int64)], "ms", timestamp_unit="ms")
clicked = FeatureView(
    name="clicked", entities=[user], source=clicks,
    aggregations=[Aggregation(function="count", window=Sliding("1h"), name="clicks_1h")],
)
model = FeatureService(name="model", features=[profile, clicked])
"""


def write(root, features=FEATURES, yaml="project: shop\n"):
    (root / "feature_store.yaml").write_text(yaml)
    (root / "features.py").write_text(features)
    users = pa.table({"user_id": [7], "at": pa.array([NOON], pa.timestamp("us", "UTC")), "city": ["Gdynia"]})
    pq.write_table(users, root / "users.parquet")
    return root


@pytest.fixture
def root(tmp_path):
    return write(tmp_path)


@pytest.fixture
def store(root):
    with FeatureStore(root, clock=lambda: NOON) as store:
        yield store


def clicks(*amounts):
    return [{"user_id": 7, "n": n, "ms": int(NOON.timestamp() * 1000) - i} for i, n in enumerate(amounts)]


def test_applying_twice_changes_nothing(store):
    assert not store.apply().is_empty
    version = open_store_of(store).snapshot().version

    assert store.plan().is_empty
    store.apply()
    assert open_store_of(store).snapshot().version == version


def test_a_plan_that_someone_overtook_is_refused_and_changes_nothing(root, store):
    mine = store.plan()
    with FeatureStore(root, clock=lambda: NOON) as other:
        other.apply()

    with pytest.raises(RegistryConflict, match=r"changed by .* since this plan was made; nothing was applied"):
        store.apply(mine)


def test_facts_that_workers_commit_do_not_stand_in_the_way_of_a_plan(root, store):
    store.apply()
    write(root, FEATURES.replace('name="profile"', 'name="profile", description="Where from"'))
    plan = store.plan()
    store.materialize()

    store.apply(plan)

    assert store.get_feature_view("profile").description == "Where from"


def test_a_changed_aggregation_is_built_before_readers_see_it(root, store):
    store.apply()
    store.push("clicks", clicks(5, 6))
    assert store.get_online_features("clicked", [{"user_id": 7}]).to_dict()["clicks_1h"] == [2]

    changed = FEATURES.replace('name="clicks_1h")]', 'name="clicks_1h"), Aggregation("n", "sum", name="total")]')
    write(root, changed)
    store.apply()

    served = store.get_online_features("clicked", [{"user_id": 7}]).to_dict()
    assert (served["clicks_1h"], served["total"]) == ([2], [11])
    store.push("clicks", clicks(1))
    assert store.get_online_features("clicked", [{"user_id": 7}]).to_dict()["total"] == [12]


def test_a_changed_batch_view_keeps_being_served(root, store):
    store.apply()
    store.materialize()
    users = pq.read_table(root / "users.parquet").append_column("age", pa.array([30]))
    write(root, FEATURES.replace('Field("city", String)]', 'Field("city", String), Field("age", Int64)]'))
    pq.write_table(users, root / "users.parquet")

    store.apply()

    assert store.get_online_features("profile", [{"user_id": 7}]).to_dict() == {
        "user_id": [7], "city": ["Gdynia"], "age": [30],
    }  # fmt: skip


def test_what_left_the_repository_leaves_the_registry_but_not_the_archive(root, store):
    store.apply()
    store.push("clicks", clicks(1))
    write(root, FEATURES.split("clicks = ")[0])

    plan = store.apply()

    assert {change.action for change in plan.changes} >= {"delete", "keep archive", "drop generation"}
    assert [view.name for view in store.list_feature_views()] == ["profile"]
    assert open_store_of(store).stores.offline.names("shop", "events") == ["clicks"]
    with pytest.raises(NotFound, match="no feature service 'model' is applied"):
        store.get_feature_service("model")


MORE = """
seen = PushSource("seen", [Field("user_id", Int64), Field("page", String), Field("ms", Int64)], "ms", timestamp_unit="ms")
"""


@pytest.mark.parametrize(
    ("more", "prepared"),
    [
        ('extra = FeatureService(name="extra", features=[profile])', set()),
        ('city = FeatureView(name="city", entities=[user], source=users, schema=[Field("city", String)])', set()),
        (MORE, {"seen"}),
        (MORE + 'pages = FeatureView(name="pages", entities=[user], source=seen, schema=[Field("page", String)])', {"seen"}),
        # Another key is another way to look up rows of an archive that is there.
        (
            'number = Entity(name="number", join_keys=["n"])\n'
            'by_n = FeatureView(name="by_n", entities=[number], source=clicks, schema=[Field("ms", Int64)], online=False)',
            {"clicks"},
        ),
    ],
)  # fmt: skip
def test_apply_prepares_the_archives_that_the_plans_steps_are_about_and_no_others(
    root, store, monkeypatch, more, prepared
):
    store.apply()
    created = set()
    create = type(open_store_of(store).stores.offline).create

    def noted(self, archive, *args, **options):
        created.add(archive.name)
        return create(self, archive, *args, **options)

    monkeypatch.setattr(type(open_store_of(store).stores.offline), "create", noted)
    write(root, FEATURES + more)

    plan = store.apply()

    assert created == prepared
    named = {getattr(step, "name", None) or getattr(step, "view", None) or step.source for step in plan.changes}
    assert all(f'"{name}"' in more for name in named)


def test_a_source_that_gets_a_column_has_it_in_its_archive(root, store):
    store.apply()
    store.push("clicks", clicks(1))
    write(root, FEATURES.replace('Field("n", Int64), ', 'Field("n", Int64), Field("page", String), '))

    assert "update" in {step.action for step in store.apply().changes}
    with FeatureStore(root, clock=lambda: NOON) as later:
        later.push("clicks", [{**clicks(2)[0], "page": "a"}])
    rows = open_store_of(store).stores.offline.rows(
        open_store_of(store).stores.archive_of(open_store_of(store).snapshot().project.sources["clicks"])
    )
    archived = (
        open_store_of(store).stores.offline.sql("SELECT n, page FROM c ORDER BY n", {"c": rows}).reader().read_all()
    )
    assert archived.to_pylist() == [{"n": 1, "page": None}, {"n": 2, "page": "a"}]


def test_findings_of_the_real_sources_come_all_at_once_and_nothing_changes(root, store):
    broken = FEATURES.replace('Field("city", String)', 'Field("citty", String)').replace(
        '"users.parquet"', '"user.parquet"'
    )
    write(root, broken)

    with pytest.raises(CheckFailed) as caught:
        store.apply()

    assert "there is no file" in str(caught.value)
    assert "users.parquet" in str(caught.value)
    assert open_store_of(store).snapshot().version == 0


def test_a_source_that_cannot_be_read_is_an_error_and_no_change_of_its_views(root, store):
    write(root, FEATURES + """
inferred = FeatureView(name="inferred", entities=[user], source=users)
moved = FeatureView(
    name="moved", entities=[user], source=users,
    aggregations=[Aggregation(function="last", column="city", window=Sliding("1d"), name="city_1d")],
)
""")  # fmt: skip
    store.apply()
    (root / "users.parquet").unlink()

    plan = store.plan()

    assert plan.errors and plan.is_empty


def test_a_typo_in_a_column_names_the_near_one_and_the_line(root, store):
    write(root, FEATURES.replace('Field("city", String)', 'Field("citty", String)'))

    with pytest.raises(CheckFailed) as caught:
        store.apply()

    assert "features.py:7" in str(caught.value)
    assert "did you mean 'city'?" in str(caught.value)


def test_rows_whose_key_is_null_are_pointed_out(root, store):
    users = pa.table({"user_id": [7, None], "at": pa.array([NOON] * 2, pa.timestamp("us", "UTC")), "city": ["a", "b"]})
    pq.write_table(users, root / "users.parquet")

    findings = [str(finding) for finding in store.plan().findings]

    assert any("no nulls in 'user_id', found 1 row where it is null" in finding for finding in findings)


def test_two_definitions_of_one_name_are_told_with_both_places(root, store):
    (root / "more.py").write_text('from asof import Entity\nuser = Entity(name="user", join_keys=["id"])\n')

    with pytest.raises(
        DuplicateDefinition, match=r"more.py:2: two definitions of entity 'user': the other one is at features.py:5"
    ):
        store.plan()


def test_a_broken_python_file_is_told_with_its_line(root, store):
    (root / "more.py").write_text("import asof\n\n1 / 0\n")

    with pytest.raises(RepositoryError, match=r"more.py:3.*ZeroDivisionError"):
        store.plan()


def test_environments_are_kept_apart(root):
    (root / "feature_store.prod.yaml").write_text(
        "project: shop_prod\nonline_store: {type: sqlite, path: prod/online.db}\n"
    )
    with FeatureStore(root, clock=lambda: NOON) as dev, FeatureStore(root, env="prod", clock=lambda: NOON) as prod:
        dev.apply()
        prod.apply()
        dev.push("clicks", clicks(1, 2, 3))
        dev.teardown(purge=True)

        assert open_store_of(dev).snapshot().version == 0
        assert prod.plan().is_empty
        prod.push("clicks", clicks(1))
        assert prod.get_online_features("clicked", [{"user_id": 7}]).to_dict()["clicks_1h"] == [1]


@pytest.mark.parametrize(
    ("row", "misfit"),
    [
        ({"user_id": 3.7}, "row 0: 3.7 is not a whole number (Int64)"),
        ({"n": 2**63}, "column 'n', row 0: 9223372036854775808 is outside Int64"),
        ({"n": "many"}, "column 'n', row 0: 'many' is not Int64"),
        ({"user_id": None}, "column 'user_id', row 0: is null"),
        ({"ms": None}, "column 'ms', row 0: is null"),
        ({"extra": 1}, "row 0: column 'extra' is not declared"),
        ({"m": 1}, "column 'm' is not declared (did you mean 'ms'?)"),
    ],
)
def test_pushed_rows_that_do_not_fit_are_refused_whole(store, row, misfit):
    store.apply()

    with pytest.raises(RowsRefused) as caught:
        store.push("clicks", [{**clicks(1)[0], **row}, *clicks(1)])

    assert misfit in str(caught.value)
    assert store.get_online_features("clicked", [{"user_id": 7}]).to_dict()["clicks_1h"] == [0]


def test_a_pushed_row_without_a_column_is_refused(store):
    store.apply()

    with pytest.raises(RowsRefused, match="row 0: column 'n' is missing"):
        store.push("clicks", [{"user_id": 7, "ms": 1}])


def test_a_batch_is_pushed_once_whoever_retries(root, store):
    store.apply()
    assert store.push("clicks", clicks(1, 2), batch_id="a") == 2
    assert store.push("clicks", clicks(1, 2), batch_id="a") == 0
    with FeatureStore(root, clock=lambda: NOON) as other:
        assert other.push("clicks", clicks(1, 2), batch_id="a") == 0

    assert store.get_online_features("clicked", [{"user_id": 7}]).to_dict()["clicks_1h"] == [2]


def test_history_sees_the_pushes_of_its_own_process(store):
    store.apply()
    store.push("clicks", clicks(1, 2, 3))

    frame = {"user_id": [7], "event_timestamp": [NOON]}
    assert store.get_historical_features(frame, ["clicked:clicks_1h"]).to_arrow()["clicks_1h"].to_pylist() == [3]


def test_who_applied_what_is_remembered(store):
    store.apply()

    assert any(commit.note.startswith("apply:") for commit in store.history())


def commit_facts(store, count):
    """As workers do with their progress."""
    for number in range(count):
        change_facts(
            open_store_of(store).stores,
            lambda facts, number=number: facts.with_gap("visits", str(number)),
            note="progress",
        )


def test_who_applied_what_is_found_behind_any_number_of_commits_of_facts(root, store):
    store.apply()
    write(root, FEATURES.replace('name="profile"', 'name="profile", description="Where from"'))
    store.apply()
    commit_facts(store, 110)

    assert [commit.summary.split(" ")[0] for commit in store.history(1)] == ["changed"]
    assert [commit.summary.split(" ")[0] for commit in store.history(2)] == ["changed", "created"]
    result = CliRunner().invoke(cli, ["-C", str(root), "history", "--limit", "1"], obj=CliContext())
    assert result.exit_code == 0 and "changed feature view" in result.output


def test_who_overtook_a_plan_is_named_though_workers_committed_after_it(root, store):
    store.apply()
    write(root, FEATURES.replace('name="profile"', 'name="profile", description="Where from"'))
    mine = store.plan()
    with FeatureStore(root, clock=lambda: NOON) as other:
        other.apply()
        commit_facts(other, 3)

    with pytest.raises(RegistryConflict, match=r"changed by .*: apply: 1 change\)"):
        store.apply(mine)


HISTORY = """
from asof import Aggregation, Entity, FeatureView, Field, FileSource, LogSource
from asof.types import Int64

user = Entity(name="user", join_keys=["user_id"])
years = FileSource(name="years", path="years.parquet", timestamp_field="ms", timestamp_unit="ms")
clicks = LogSource(
    name="clicks", schema=[Field("user_id", Int64), Field("n", Int64), Field("ms", Int64)],
    timestamp_field="ms", timestamp_unit="ms", batch_source=years, stream_from="2026-01-01",
)
clicked = FeatureView(
    name="clicked", entities=[user], source=clicks, aggregations=[Aggregation("n", "sum", name="total")],
)
"""


def test_the_years_before_a_stream_are_loaded_once_and_count_beside_it(root, store):
    write(root, HISTORY)
    day = int(NOON.timestamp() * 1000)
    years = pa.table({"user_id": [7, 7, 8], "n": [100, 1000, 5], "ms": [day - 86_400_000 * 400, day, day - 86_400_000]})
    pq.write_table(years, root / "years.parquet")
    store.apply()
    assert store.backfill("clicks") == 0, "apply has loaded them"
    open_store_of(store).stores.log.send(
        "clicks",
        [b'{"user_id": 7, "n": 1, "ms": %d}' % day, b'{"user_id": 7, "n": 10000, "ms": %d}' % (day - 86_400_000 * 2)],
        durable=False,
    )
    store.stream_run(until_caught_up=True)

    # The row of the batch source after `stream_from`, and the event of the stream before it, are left out on both sides.
    served = store.get_online_features("clicked", [{"user_id": 7}, {"user_id": 8}]).to_dict()["total"]
    frame = {"user_id": [7, 8], "event_timestamp": [NOON, NOON]}
    trained = store.get_historical_features(frame, ["clicked:total"]).to_arrow()["total"].to_pylist()
    assert served == trained == [101, 5]


def test_an_entity_typed_again_beside_what_is_applied_is_the_same(store):
    from asof import Entity, FeatureView, Field, FileSource
    from asof.types import String

    store.apply()
    users = FileSource(name="users", path="users.parquet", timestamp_field="at", lag="1h")
    again = Entity(name="user", join_keys=["user_id"])
    store.apply([FeatureView(name="second", entities=[again], source=users, schema=[Field("city", String)])])

    assert [view.name for view in store.list_feature_views()] == ["clicked", "profile", "second"]
