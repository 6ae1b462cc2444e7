"""The command line against a small store object: what is asked, what is written where, and with which exit code."""

from __future__ import annotations

import inspect
import json
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import click
import pyarrow as pa
import pytest
from click.testing import CliRunner

import asof.errors
from asof import (
    Aggregation,
    Entity,
    FeatureService,
    FeatureView,
    Field,
    PushSource,
    Session,
    on_demand_feature_view,
)
from asof.cli import commands as commands_package
from asof.cli import reference
from asof.cli.app import COMMANDS, cli, command_named
from asof.cli.context import CliContext
from asof.cli.exit_codes import EXIT_CODES, FOUND, PIPE_CLOSED, STOPPED, UNEXPECTED, USAGE
from asof.cli.progress import ProgressLines
from asof.config import load_config
from asof.definitions import Project
from asof.errors import AsofError, CheckFailed, NotFound, RegistryConflict, RowsRefused
from asof.flows.admin.audit import AuditReport, Difference
from asof.flows.admin.forget import ForgetResult
from asof.flows.batch.materialize import MaterializeResult
from asof.flows.stream.dead_letters import DeadLetterMessage, ReplayResult
from asof.planning import Create, CreateArchive, Finding, Plan
from asof.results import Records
from asof.server.security.keys import KeyRing
from asof.timing import micros, moment
from asof.types import Float64, Int64, String, Timestamp
from tests.cli_shell import FakeStore, Shell

SOURCE = Path(__file__).parents[2] / "src"
ENVIRONMENT = {"PYTHONPATH": str(SOURCE), "PATH": "/usr/bin:/bin", "COLUMNS": "80"}

user = Entity(name="user", join_keys=["user_id"])
visits = PushSource(
    name="visits",
    schema=[Field("user_id", Int64), Field("page", String), Field("visited_at", Timestamp)],
    timestamp_field="visited_at",
)
user_visits = FeatureView(
    name="user_visits",
    entities=[user],
    source=visits,
    aggregations=[Aggregation(name="session_visits", function="count", where="page = 'home'", window=Session("1h"))],
    description="What a user looked at lately, in words that are too long to stand on one line of a narrow terminal",
)


@on_demand_feature_view(sources=[user_visits], schema=[Field("twice", Float64)], mode="python")
def doubled(row: dict[str, Any]) -> dict[str, Any]:
    return {"twice": 2 * row["session_visits"]}


model = FeatureService(name="model", features=[user_visits, doubled])


@pytest.fixture
def store() -> FakeStore:
    store = FakeStore()
    store.answers = {
        "list_entities": [user], "list_sources": [visits], "list_feature_views": [user_visits],
        "list_on_demand_feature_views": [doubled], "list_feature_services": [model],
        "get_feature_view": lambda name: {"user_visits": user_visits}[name],
        "get_feature_service": lambda name: {"model": model}[name],
        "get_source": lambda name: {"visits": visits}[name],
        "get_entity": lambda name: {"user": user}[name],
        "training_sets": [], "teardown": None, "stream_status": [],
        "push": lambda source, rows, batch_id: len(rows),
    }  # fmt: skip
    return store


@pytest.fixture
def asof_(store: FakeStore) -> Shell:
    return Shell(store)


def every_command() -> Iterator[tuple[str, click.Command]]:
    def walk(path: str, command: click.Command) -> Iterator[tuple[str, click.Command]]:
        yield path, command
        if isinstance(command, click.Group):
            context = click.Context(command)
            for name in command.list_commands(context):
                yield from walk(f"{path} {name}", command.get_command(context, name))

    return walk("asof", cli)


class TestEveryCommand:
    def test_the_commands_are_those_of_the_design(self) -> None:
        leaves = {path for path, command in every_command() if not isinstance(command, click.Group)}

        assert leaves == {
            f"asof {name}"
            for name in (
                "init", "plan", "apply", "teardown", "list", "show", "history", "get historical", "get online", "push",
                "keys new", "serve", "materialize", "backfill", "stream run", "stream status", "dead-letters list", "dead-letters show",
                "dead-letters replay", "sample", "audit", "explain", "rebuild", "forget", "doctor", "demo", "compact",
                "search", "ui", "lineage", "run", "runs", "profile", "stats", "backup", "restore",
            )
        }  # fmt: skip

    @pytest.mark.parametrize(("path", "command"), list(every_command()))
    def test_it_says_what_it_does_and_what_each_option_means(self, path: str, command: click.Command) -> None:
        assert command.help
        first = command.help.split("\n\n")[0]
        assert first.endswith(".") and (len(first) <= 66 or path == "asof")
        for option in command.params:
            if isinstance(option, click.Option):
                assert option.help, f"{path} {option.opts[0]} has no help"

    @pytest.mark.parametrize(("path", "command"), list(every_command()))
    def test_its_options_have_environment_variables(self, path: str, command: click.Command) -> None:
        assert all(option.allow_from_autoenv for option in command.params if isinstance(option, click.Option))

    def test_a_command_is_loaded_only_when_it_is_asked_for(self) -> None:
        code = "import asof.cli.app, sys; print([name for name in sys.modules if 'cli.commands' in name])"
        run = subprocess.run([sys.executable, "-c", code], env=ENVIRONMENT, capture_output=True, text=True, check=True)

        assert run.stdout.strip() == "[]"

    def test_a_command_that_reads_no_files_loads_no_pandas(self) -> None:
        code = "import sys, asof.store, asof.offline.duckdb, asof.online.sqlite; print('pandas' in sys.modules)"
        run = subprocess.run([sys.executable, "-c", code], env=ENVIRONMENT, capture_output=True, text=True, check=True)

        assert run.stdout.strip() == "False"

    def test_help_loads_no_engine(self) -> None:
        code = (
            "import sys\nfrom asof.cli import main\n"
            "try: main()\nexcept SystemExit: pass\n"
            "print([name for name in 'duckdb pyarrow numpy rich deltalake yaml'.split() if name in sys.modules])"
        )
        run = subprocess.run(
            [sys.executable, "-c", code, "--help"], env=ENVIRONMENT, capture_output=True, text=True, check=True
        )

        assert run.stdout.strip().endswith("[]")

    def test_help_fits_eighty_columns(self, asof_: Shell) -> None:
        for path, _ in every_command():
            shown = asof_(*path.split()[1:], "--help")
            assert shown.exit_code == 0
            # Examples are copied from a screen, so they are never wrapped.
            lines = [line for line in shown.stdout.splitlines() if not line.lstrip().startswith("asof ")]
            assert max(map(len, lines)) <= 80


class TestOptionsOfAsof:
    def test_they_may_stand_before_or_behind_the_command(self, asof_: Shell) -> None:
        before = asof_("-C", "repo", "--env", "prod", "--output", "json", "list", "views")
        behind = asof_("list", "views", "-C", "repo", "--env", "prod", "--output", "json")

        assert asof_.opened == [(Path("repo"), "prod")] * 2
        assert before.stdout == behind.stdout and json.loads(before.stdout)["views"][0]["name"] == "user_visits"

    def test_they_come_from_the_environment_too(self, asof_: Shell) -> None:
        answer = asof_("list", "views", env={"ASOF_OUTPUT": "json", "ASOF_REPO": "there", "ASOF_ENV": "staging"})

        assert json.loads(answer.stdout) and asof_.opened == [(Path("there"), "staging")]

    @pytest.mark.parametrize(
        ("words", "environment", "opened"),
        [
            (("--feature-store-yaml", "conf/prod.yaml", "list"), {}, (None, None, Path("conf/prod.yaml"))),
            (("list", "--feature-store-yaml", "/conf/prod.yaml"), {}, (None, None, Path("/conf/prod.yaml"))),
            (("list", "-C", "there", "--env", "dev"), {"ASOF_FEATURE_STORE_YAML": "prod.yaml"}, (Path("there"), "dev", Path("prod.yaml"))),
            (("list", "--feature-store-yaml", "a.yaml"), {"ASOF_FEATURE_STORE_YAML": "b.yaml"}, (None, None, Path("a.yaml"))),
            (("list",), {"ASOF_FEATURE_STORE_YAML": "file:///conf/prod.yaml"}, (None, None, Path("/conf/prod.yaml"))),
        ],
    )  # fmt: skip
    def test_a_configuration_file_is_named_before_or_behind_the_command_or_in_the_environment(
        self, asof_: Shell, words: tuple[str, ...], environment: dict[str, str], opened: tuple[Any, ...]
    ) -> None:
        asof_(*words, env=environment)

        assert asof_.opened == [opened]

    @pytest.mark.parametrize(
        "words",
        [
            ("-C", "s3://b/repo", "list"), ("list", "-C", "gs://b/repo"), ("init", "s3://b/repo"),
            ("--feature-store-yaml", "https://h/feature_store.yaml", "list"), ("demo", "--output", "s3://b/demo"),
            ("get", "historical", "--features", "v:f", "--entities", "s3://b/e.parquet"),
            ("get", "historical", "--features", "v:f", "--sql", "SELECT 1", "--out", "s3://b/o.parquet"),
            ("push", "visits", "--file", "s3://b/rows.json"), ("serve", "--tls-cert", "https://h/cert.pem"),
        ],
    )  # fmt: skip
    def test_a_url_is_no_path_on_the_command_line(
        self, asof_: Shell, words: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        answer = asof_(*words)

        assert answer.exit_code == 2 and "where a local path is expected" in answer.stderr
        assert list(tmp_path.iterdir()) == []

    def test_a_commands_own_options_come_from_the_environment(self, asof_: Shell, store: FakeStore) -> None:
        store.answers["history"] = []
        asof_("history", env={"ASOF_HISTORY_LIMIT": "3"})

        assert store.calls == [("history", (3,), {})]

    def test_demo_keeps_its_own_output_option(self, asof_: Shell) -> None:
        assert "--output FOLDER" in asof_("demo", "--help").stdout

    def test_the_clock_is_said_when_it_is_not_the_systems(self, asof_: Shell, store: FakeStore) -> None:
        store.note_of_clock("clock: 2020-10-18T05:46:40Z (given)")

        assert asof_("list").stderr == "clock: 2020-10-18T05:46:40Z (given)\n"
        assert asof_("--quiet", "list").stderr == ""

    def test_what_a_users_code_prints_stays_out_of_the_document(self, asof_: Shell, store: FakeStore) -> None:
        def rebuild(views: Any, progress: Any) -> dict[str, int]:
            print("from an on-demand function")
            return {"user_visits": 3}

        store.answers["rebuild"] = rebuild

        assert json.loads(asof_("rebuild", "--output", "json").stdout) == {"rebuilt": {"user_visits": 3}}
        assert "from an on-demand function" in asof_("rebuild").stdout

    def test_the_store_is_closed(self, asof_: Shell, store: FakeStore) -> None:
        asof_("list")

        assert store.closed

    def test_version(self, asof_: Shell) -> None:
        assert asof_("--version").stdout.startswith("asof ")


class TestErrors:
    @pytest.mark.parametrize(
        "error",
        [
            NotFound("no view 'a'", hint="did you mean 'b'?"),
            RowsRefused("1 row", ["row 0: 3.7 into Int64"], where="f.py:3"),
        ],
    )
    def test_an_error_is_its_text_and_its_code(self, asof_: Shell, store: FakeStore, error: AsofError) -> None:
        store.fails = error
        answer = asof_("list", "views")

        assert answer.stdout == ""
        assert answer.stderr == f"error: {error}\n"
        assert answer.exit_code == type(error).exit_code

    def test_an_error_as_json_leaves_stdout_empty(self, asof_: Shell, store: FakeStore) -> None:
        store.fails = RegistryConflict("somebody was first", hint="run it again")
        answer = asof_("list", "views", "--output", "json")

        assert answer.stdout == ""
        assert json.loads(answer.stderr) == store.fails.to_dict()
        assert answer.exit_code == 8

    def test_a_defect_asks_to_be_reported(self, asof_: Shell, store: FakeStore) -> None:
        store.fails = ZeroDivisionError("by zero")
        answer = asof_("list", "views")

        assert answer.stderr == "unexpected ZeroDivisionError: by zero: report it, run again with --debug\n"
        assert answer.exit_code == UNEXPECTED
        assert "Traceback" in asof_("--debug", "list", "views").stderr

    def test_debug_shows_what_the_driver_raised(self, asof_: Shell, store: FakeStore) -> None:
        store.fails = NotFound("no view")
        store.fails.__cause__ = KeyError("from the driver")

        assert "from the driver" not in asof_("list", "views").stderr
        assert "from the driver" in asof_("list", "views", "--debug").stderr

    def test_ctrl_c_says_that_what_was_done_stands(self, asof_: Shell, store: FakeStore) -> None:
        store.fails = KeyboardInterrupt()
        answer = asof_("list", "views")

        assert answer.stderr.strip() == "stopped; what was done stands"
        assert answer.exit_code == STOPPED

    def test_ctrl_c_that_was_swallowed_ends_the_command_at_its_next_progress(self) -> None:
        class Swallowing:
            _open = SimpleNamespace(clock_note="")

            def close(self) -> None: ...

            def materialize(self, *_: Any, progress: Any, **__: Any) -> None:
                try:
                    signal.raise_signal(signal.SIGINT)
                except KeyboardInterrupt:
                    pass
                progress("rows", 1, 2)
                raise AssertionError("it went on")

        result = CliRunner().invoke(cli, ["materialize"], obj=CliContext(lambda repo, env: Swallowing()))
        assert (result.exit_code, result.stderr) == (130, "stopped; what was done stands\n")
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler

    def test_an_error_after_ctrl_c_is_its_echo(self) -> None:
        class Echoing:
            _open = SimpleNamespace(clock_note="")

            def close(self) -> None: ...

            def materialize(self, *_: Any, **__: Any) -> None:
                try:
                    signal.raise_signal(signal.SIGINT)
                except KeyboardInterrupt as error:
                    raise RuntimeError("a class could not be made") from error

        result = CliRunner().invoke(cli, ["materialize"], obj=CliContext(lambda repo, env: Echoing()))
        assert (result.exit_code, result.stderr) == (130, "stopped; what was done stands\n")

    def test_an_unknown_command_names_the_near_one(self, asof_: Shell) -> None:
        answer = asof_("sampel")

        assert "error: no command 'sampel': did you mean 'sample'?" in answer.stderr
        assert answer.exit_code == USAGE

    def test_a_wrong_option_is_usage_in_both_forms(self, asof_: Shell) -> None:
        text = asof_("sample", "--rows", "3", "view")
        as_json = asof_("--output", "json", "sample", "--rows", "3", "view")

        assert "error: No such option" in text.stderr and "next: asof sample --help" in text.stderr
        assert json.loads(as_json.stderr)["error"] == "UsageError"
        assert text.exit_code == as_json.exit_code == USAGE

    def test_a_file_that_cannot_be_read_is_no_defect(self, asof_: Shell, tmp_path: Path) -> None:
        answer = asof_("push", "visits", "--file", str(tmp_path / "gone.json"))

        assert "gone.json': No such file" in answer.stderr and answer.exit_code == 8

    @pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs Linux's device that is always full")
    def test_a_full_disk_under_the_output_is_no_defect(self) -> None:
        with open("/dev/full", "w") as full:
            run = subprocess.run(
                [sys.executable, "-m", "asof", "--help"],
                env=ENVIRONMENT,
                stdout=full,
                stderr=subprocess.PIPE,
                text=True,
            )

        assert run.returncode == 8 and run.stderr.startswith("error: the output: No space left on device")

    def test_every_error_has_an_exit_code_in_the_table(self) -> None:
        errors = [each for _, each in inspect.getmembers(asof.errors, inspect.isclass) if issubclass(each, AsofError)]

        assert len(errors) > 10
        assert {each.exit_code for each in errors} <= set(EXIT_CODES)

    def test_a_reader_that_stops_reading_is_no_error(self) -> None:
        code = "from asof.cli import main; main()"
        run = subprocess.Popen(
            [sys.executable, "-c", code, "--help"], env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        run.stdout.close()
        said = run.stderr.read()

        assert (run.wait(), said) == (PIPE_CLOSED, b"")
        run.stderr.close()


class TestQuestions:
    def test_teardown_asks_first(self, asof_: Shell, store: FakeStore) -> None:
        declined = asof_("teardown", input="n\n")

        assert declined.exit_code == 1 and "Nothing was changed." in declined.stderr
        assert store.calls == []

        assert asof_("teardown", input="y\n").exit_code == 0
        assert store.calls == [("teardown", (), {"purge": False})]

    def test_yes_goes_on_without_asking(self, asof_: Shell, store: FakeStore) -> None:
        answer = asof_("teardown", "--purge", "--yes")

        assert answer.stderr == "" and store.calls == [("teardown", (), {"purge": True})]

    def test_where_nobody_answers_it_says_which_option_helps(self, asof_: Shell, store: FakeStore) -> None:
        answer = asof_("teardown", input="")

        assert answer.exit_code == USAGE and "add --yes" in answer.stderr and store.calls == []
        assert "\nUsage: " in answer.stderr

    def test_questions_stand_on_stderr(self, asof_: Shell) -> None:
        answer = asof_("teardown", "--output", "json", input="y\n")

        assert json.loads(answer.stdout) == {"project": "shop", "purged": False}
        assert "Tear down project 'shop'" in answer.stderr

    def test_forget_takes_one_key(self, asof_: Shell, store: FakeStore) -> None:
        store.answers["forget"] = ForgetResult(
            "user", {"user_id": 7}, archive={"visits": 3}, online={"model": 1},
            training_sets=[{"name": "orders", "rows": 2}], notes=["delete the rows, please", "run it again later"],
        )  # fmt: skip
        answer = asof_("forget", "user", "--key", "user_id=7", "--yes")

        assert store.calls[-1] == ("forget", ("user", {"user_id": 7}), {})
        assert "orders     2" in answer.stdout
        assert [line.removeprefix("  notes").strip() for line in answer.stdout.splitlines()[-2:]] == [
            "delete the rows, please", "run it again later",
        ]  # fmt: skip
        assert asof_("forget", "--entity", "user", "--key", "8", "--yes").exit_code == 0
        assert store.calls[-1] == ("forget", ("user", {"user_id": 8}), {})
        assert asof_("forget", "user", "--yes").exit_code == USAGE
        assert asof_("forget", "--key", "user_id=7", "--yes").exit_code == USAGE


class TestGetOnline:
    @pytest.fixture(autouse=True)
    def answers(self, store: FakeStore) -> None:
        store.answers["get_online_features"] = lambda features, rows, full_feature_names: SimpleNamespace(
            to_dict=lambda: {"user_id": [row["user_id"] for row in rows], "session_visits": [3, None][: len(rows)]},
            statuses={"session_visits": ["PRESENT", "NOT_FOUND"][: len(rows)]},
            event_times={"session_visits": [datetime(2026, 11, 23, tzinfo=UTC), None][: len(rows)]},
        )

    def test_a_key_name_that_comes_again_begins_the_next_row(self, asof_: Shell, store: FakeStore) -> None:
        answer = asof_(
            "get", "online", "--features", "user_visits:session_visits", "-k", "user_id=7", "-k", "user_id=8"
        )

        assert store.calls[-1][1] == (["user_visits:session_visits"], [{"user_id": 7}, {"user_id": 8}])
        assert answer.stdout.splitlines() == [
            "user_id  session_visits", "-------  --------------", "      7               3", "      8            null",
        ]  # fmt: skip

    def test_status_and_event_time_are_shown_when_asked_for(self, asof_: Shell) -> None:
        args = [
            "get",
            "online",
            "--features",
            "user_visits:session_visits",
            "-k",
            "user_id=7",
            "-k",
            "user_id=8",
            "--status",
        ]

        assert asof_(*args).stdout.splitlines() == [
            "user_id=7:",
            "feature         value  status   event time",
            "--------------  -----  -------  --------------------",
            "session_visits      3  PRESENT  2026-11-23T00:00:00Z",
            "",
            "user_id=8:",
            "feature         value  status     event time",
            "--------------  -----  ---------  ----------",
            "session_visits  null   NOT_FOUND  -",
        ]
        assert json.loads(asof_(*args, "--output", "json").stdout) == {
            "rows": [{"user_id": 7, "session_visits": 3}, {"user_id": 8, "session_visits": None}],
            "statuses": {"session_visits": ["PRESENT", "NOT_FOUND"]},
            "event_times": {"session_visits": ["2026-11-23T00:00:00Z", None]},
        }

    def test_rows_come_as_json_too(self, asof_: Shell, store: FakeStore) -> None:
        asof_("get", "online", "--service", "model", "--rows", "-", input='[{"user_id": 7}]')

        assert store.calls[-1][1] == (model, [{"user_id": 7}])

    def test_text_stays_text_where_the_key_is_text(self, asof_: Shell, store: FakeStore) -> None:
        named = FeatureView(
            name="named", entities=[Entity("user_id")], schema=[Field("user_id", String), Field("a", Int64)],
            source=PushSource("pushed", [Field("user_id", String), Field("a", Int64), Field("t", Timestamp)], "t"),
        )  # fmt: skip
        store.answers["list_feature_views"] = [named]
        asof_("get", "online", "-f", "named:a", "-k", "user_id=007")

        assert store.calls[-1][1] == (["named:a"], [{"user_id": "007"}])

    @pytest.mark.parametrize(
        ("args", "message"),
        [
            (["-k", "user_id=7"], "give either --features view:feature,… or --service NAME"),
            (["-f", "a:b", "--service", "model", "-k", "user_id=7"], "give either --features"),
            (["-f", "a:b"], "give --key NAME=VALUE, or --rows"),
            (["-f", "a:b", "-k", "user_id"], "--key 'user_id': expected NAME=VALUE"),
            (["-f", "a:b", "--rows", "{"], "--rows is not JSON"),
            (["-f", "a:b", "--rows", "[7]"], "--rows: expected a list of objects"),
        ],
    )
    def test_a_request_that_is_not_well_formed_is_usage(self, asof_: Shell, args: list[str], message: str) -> None:
        answer = asof_("get", "online", *args)

        assert answer.exit_code == USAGE and message in answer.stderr


class TestGetHistorical:
    @pytest.fixture(autouse=True)
    def answers(self, store: FakeStore) -> None:
        table = pa.table({"user_id": range(100), "country": ["Poland", None] * 50})
        self.batches_taken = 0

        def batches() -> Iterator[pa.RecordBatch]:
            for batch in table.to_batches(max_chunksize=10):
                self.batches_taken += 1
                yield batch

        result = SimpleNamespace(
            to_batches=batches,
            to_arrow=lambda: table,
            to_sql=lambda: "SELECT 1",
            write=lambda path: 100,
            save=lambda name: None,
        )
        store.answers["get_historical_features"] = lambda *args, **options: result

    def test_only_what_is_shown_is_computed(self, asof_: Shell) -> None:
        answer = asof_("get", "historical", "--sql", "SELECT 1", "-f", "a:b,a:c", "--limit", "3")

        assert answer.stdout.splitlines()[-1] == "      2  Poland" and self.batches_taken == 1
        assert "the first 3 rows" in answer.stderr

    def test_json_has_all_rows(self, asof_: Shell) -> None:
        answer = asof_("get", "historical", "--sql", "SELECT 1", "-f", "a:b", "--output", "json")

        assert len(json.loads(answer.stdout)["rows"]) == 100

    def test_what_was_asked_reaches_the_store(self, asof_: Shell, store: FakeStore) -> None:
        asof_("get", "historical", "--entities", "orders.parquet", "-f", "a:b, a:c", "-f", "d:e", "--known-at", "row")

        assert store.calls[-1] == (
            "get_historical_features", (str(Path("orders.parquet").absolute()), ["a:b", "a:c", "d:e"]),
            {"full_feature_names": False, "known_at": True, "start_date": None, "end_date": None},
        )  # fmt: skip

    def test_it_is_written_to_a_file(self, asof_: Shell) -> None:
        answer = asof_("get", "historical", "--service", "model", "--start", "2026-01-01", "--out", "set.parquet")

        assert answer.stdout == "Wrote 100 rows to set.parquet.\n"

    def test_the_sql_is_shown_instead_of_run(self, asof_: Shell) -> None:
        assert asof_("get", "historical", "--service", "model", "--show-sql").stdout == "SELECT 1\n"
        assert self.batches_taken == 0

    def test_a_time_that_is_none_is_usage(self, asof_: Shell) -> None:
        answer = asof_("get", "historical", "--service", "model", "--start", "yesterday")

        assert answer.exit_code == USAGE and "'yesterday' is not a time like 2026-11-23T12:00:00Z" in answer.stderr


class TestFeeding:
    def test_rows_are_pushed_from_the_command_line(self, asof_: Shell, store: FakeStore) -> None:
        answer = asof_("push", "visits", '{"user_id": 7}', '[{"user_id": 8}, {"user_id": 9}]', "--batch-id", "one")

        assert answer.stdout == "Pushed 3 rows to visits.\n"
        assert store.calls[-1] == (
            "push",
            ("visits", [{"user_id": 7}, {"user_id": 8}, {"user_id": 9}]),
            {"batch_id": "one"},
        )

    def test_rows_are_pushed_as_lines_from_stdin(self, asof_: Shell, store: FakeStore) -> None:
        asof_("push", "visits", "--file", "-", input='{"user_id": 7}\n{"user_id": 8}\n')

        assert store.calls[-1][1] == ("visits", [{"user_id": 7}, {"user_id": 8}])

    def test_rows_are_pushed_from_a_table(self, asof_: Shell, store: FakeStore, tmp_path: Path) -> None:
        visits = SimpleNamespace(name="visits", schema=(Field("user_id", Int64), Field("page", String)))
        store.answers["list_data_sources"] = [visits]
        (tmp_path / "rows.csv").write_text("user_id,page\n7,007\n")
        asof_("push", "visits", "--file", str(tmp_path / "rows.csv"))

        assert store.calls[-1][1][1].to_pylist() == [{"user_id": 7, "page": "007"}]

    @pytest.mark.parametrize("rows", [["{"], ["7"], []])
    def test_what_is_no_object_is_usage(self, asof_: Shell, rows: list[str]) -> None:
        assert asof_("push", "visits", *rows).exit_code == USAGE

    def test_materialize_reports_progress_on_stderr(self, asof_: Shell, store: FakeStore) -> None:
        def materialize(*args: Any, progress: Any, **options: Any) -> Records[MaterializeResult]:
            progress("user_profile", 500, 1000)
            progress("user_profile", 1000, 1000)
            until = datetime(2026, 11, 23, tzinfo=UTC)
            return Records(MaterializeResult, [MaterializeResult("user_profile", 1000, until, 0.25, expired=990)])

        store.answers["materialize"] = materialize
        answer = asof_("materialize", "user_profile", "--end", "2026-11-23")

        assert answer.stderr == (
            "user_profile: 1,000 of 1,000 (100 %)\n"
            "user_profile: 990 of 1,000 rows are older than its ttl; reads return null for them\n"
        )
        assert answer.stdout.splitlines()[-1] == "user_profile  1000     0.25  2026-11-23T00:00:00Z"
        assert store.calls[-1][1] == (None, datetime(2026, 11, 23, tzinfo=UTC))


class TestStream:
    @pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 0), (signal.SIGINT, STOPPED)])
    def test_a_signal_lets_the_worker_finish(self, asof_: Shell, store: FakeStore, number: int, code: int) -> None:
        def stream_run(sources: Any, *, stop: threading.Event, **options: Any) -> dict[str, int]:
            os.kill(os.getpid(), number)
            assert stop.wait(5)
            return {"events": 10}

        store.answers["stream_run"] = stream_run
        before = signal.getsignal(number)
        answer = asof_("stream", "run")

        assert answer.exit_code == code
        assert signal.getsignal(number) == before
        assert ("events  10" in answer.stdout) == (code == 0)

    def test_a_second_ctrl_c_stops_at_once(self, asof_: Shell, store: FakeStore) -> None:
        def stream_run(sources: Any, *, stop: threading.Event, **options: Any) -> None:
            for _ in range(2):
                os.kill(os.getpid(), signal.SIGINT)
            pytest.fail("not reached")

        store.answers["stream_run"] = stream_run

        assert asof_("stream", "run").exit_code == STOPPED

    def test_status_leaves_out_columns_before_it_breaks_words(self, asof_: Shell, store: FakeStore) -> None:
        store.answers["stream_status"] = [
            {"source": "traffic", "topic": "shop.website.traffic", "partition": 0, "first": 0, "next": 1_000_000,
             "archived": 999_000, "lag": 1000, "behind_s": 4.125, "events_per_s": 1520.3, "freshness_s": 0.012,
             "late_p50_s": 2.5, "late_max_s": 3601.25, "dead_letters": 2, "last_message": "2026-11-23T12:00:00Z", "gaps": []}
        ]  # fmt: skip
        narrow, wide = asof_("stream", "status"), asof_("stream", "status", width=120)

        table, _, left_out = narrow.stdout.partition("Not shown: ")
        assert "last message" not in table and all(
            each in table for each in ("1000", "4.125", "1520.3", "0.012", "3601.25")
        )
        assert left_out.startswith("last message, ") and left_out.endswith("has all.\n")
        assert max(map(len, narrow.stdout.splitlines())) <= 80 and "behind s" in narrow.stdout
        assert "2026-11-23T12:00:00Z" in wide.stdout and "999000" in wide.stdout
        assert json.loads(asof_("stream", "status", "--output", "json").stdout)["partitions"][0]["topic"]


class TestDeadLetters:
    def test_they_are_listed_with_their_reasons(self, asof_: Shell, store: FakeStore) -> None:
        store.answers["dead_letters"] = pa.table({
            "id": ["traffic-0-7"], "source": ["traffic"], "topic": ["traffic"], "partition": [0], "offset": [7],
            "reason": ["column 'user_id' (Int64): found 3.7, which is not whole"],
            "at": [datetime(2026, 11, 23, 12, tzinfo=UTC)], "size": [80],
        })  # fmt: skip
        answer = asof_("dead-letters", "list")

        assert "traffic-0-7" in answer.stdout and "2026-11-23T12:00:00Z" in answer.stdout
        assert max(map(len, answer.stdout.splitlines())) <= 80

    def test_one_is_shown_without_harm_to_the_terminal(self, asof_: Shell, store: FakeStore) -> None:
        store.answers["dead_letter"] = DeadLetterMessage(
            id="traffic/0/7", source="traffic", topic="traffic", partition=0, offset=7, at=moment(0), size=12,
            reason="not JSON", replayed=False, key=None, value=b"\x1b[31m\xffhello\n", headers=(), text=None,
            refused_now="not JSON",
        )  # fmt: skip

        assert "\\x1b[31m\\xffhello\\n" in asof_("dead-letters", "show", "traffic/0/7").stdout
        shown = json.loads(asof_("dead-letters", "show", "traffic/0/7", "--output", "json").stdout)
        assert shown["dead_letter"]["value"] == "G1szMW3/aGVsbG8K"

    def test_some_are_replayed(self, asof_: Shell, store: FakeStore) -> None:
        store.answers["replay_dead_letters"] = ReplayResult(sent=1, already=0, still_unfit={"traffic/0/7": "not JSON"})

        assert "sent     1" in asof_("dead-letters", "replay", "traffic", "a", "b").stdout
        assert store.calls[-1][1] == ("traffic", ["a", "b"])


class TestLooking:
    def test_an_audit_that_finds_differences_says_so_in_its_code(self, asof_: Shell, store: FakeStore) -> None:
        difference = Difference("user_visits", "a", {"user_id": 7}, moment(0), 3, 4, "lag")
        store.answers["audit"] = AuditReport(moment(0), keys=100, differences=[difference])

        assert "user_id=7" in asof_("audit").stdout
        assert asof_("audit").exit_code == FOUND
        as_json = asof_("audit", "--output", "json")
        assert json.loads(as_json.stdout)["audit"]["differences"] == [
            {**difference.to_dict(), "at": "1970-01-01T00:00:00Z"}
        ]
        assert as_json.exit_code == FOUND

    def test_an_audit_of_many_differences_shows_the_first_and_counts_the_others(
        self, asof_: Shell, store: FakeStore
    ) -> None:
        found = [Difference("user_visits", "a", {"user_id": each}, moment(0), 3, 4, "lag") for each in range(300)]
        store.answers["audit"] = AuditReport(moment(0), keys=300, differences=found)

        shown = asof_("audit")
        assert "user_id=19" in shown.stdout and "user_id=20" not in shown.stdout
        assert "280 more differences; --output json has all." in shown.stderr
        assert len(json.loads(asof_("audit", "--output", "json").stdout)["audit"]["differences"]) == 300

    def test_an_audit_that_compared_nothing_says_so(self, asof_: Shell, store: FakeStore) -> None:
        store.answers["audit"] = AuditReport(moment(0))
        assert "Nothing was compared" in asof_("audit").stdout and "no differences" not in asof_("audit").stdout

        store.answers["audit"] = AuditReport(moment(0), keys=1, values=1, equal=1)
        assert "Serving equals training: no differences." in asof_("audit").stdout

    def test_doctor_has_one_line_per_part(self, asof_: Shell, store: FakeStore) -> None:
        store.answers["doctor"] = [
            SimpleNamespace(part="registry", ok=True, text="sqlite, version 3", hint=""),
            SimpleNamespace(part="online store", ok=False, text="rows of 1 key are too long", hint="see docs"),
        ]
        answer = asof_("doctor")

        assert answer.exit_code == FOUND
        assert answer.stdout.splitlines() == [
            "ok   registry      sqlite, version 3",
            "BAD  online store  rows of 1 key are too long",
            "     next: see docs",
        ]
        assert json.loads(asof_("doctor", "--output", "json").stdout)["checks"][0]["ok"] is True

    def test_doctor_has_one_line_of_a_long_text_and_all_of_a_bad_one(self, asof_: Shell, store: FakeStore) -> None:
        long = " ".join(["many words"] * 20)
        store.answers["doctor"] = [
            SimpleNamespace(part="registry", ok=True, text=f"at /shop/data/registry.db, {long}", hint=""),
            SimpleNamespace(part="online store", ok=False, text=long, hint=""),
        ]
        first, *bad, last = asof_("doctor").stdout.splitlines()

        assert first.startswith("ok   registry      at data/registry.db, many words") and first.endswith("…")
        assert len(first) <= 80 and last == "…: --output json has the whole text."
        assert " ".join(" ".join(bad).split()) == f"BAD online store {long}"

    def test_explain_shows_the_rows_behind_a_value(self, asof_: Shell, store: FakeStore) -> None:
        rows = pa.table({"visited_at": [datetime(2026, 11, 23, tzinfo=UTC)], "page": ["home"]})
        store.answers["explain"] = SimpleNamespace(value=1, rows=rows, text="user_visits:session_visits is 1")
        answer = asof_("explain", "user_visits:session_visits", "--key", "user_id=7", "--at", "2026-11-23T00:00:00Z")

        assert answer.stdout.splitlines()[0] == "user_visits:session_visits is 1" and "home" in answer.stdout
        assert json.loads(asof_("explain", "a:b", "-k", "user_id=7", "--output", "json").stdout)["value"] == 1
        assert [call for call in store.calls if call[0] == "explain"][0] == (
            "explain", ("user_visits:session_visits", {"user_id": 7}), {"at": datetime(2026, 11, 23, tzinfo=UTC)},
        )  # fmt: skip

    def test_heads_are_broken_at_their_underscores_where_the_values_are_narrow(
        self, asof_: Shell, store: FakeStore
    ) -> None:
        store.answers["sample"] = pa.table({"user_id": [7], **{f"session_page_views_{i}": [i] for i in range(6)}})

        lines = asof_("sample", "user_visits").stdout.splitlines()

        assert max(map(len, lines)) <= 80
        assert lines[-1].split() == ["7", "0", "1", "2", "3", "4", "5"]
        heads = {word for line in lines[:-2] for word in line.split()}
        names = [head for head in heads if not head.endswith("_")]
        assert {head.split("_")[-1] for head in names} == {"id", "0", "1", "2", "3", "4", "5"}

    def test_a_wide_sample_becomes_one_record_below_the_other(self, asof_: Shell, store: FakeStore) -> None:
        store.answers["sample"] = pa.table({f"a_feature_with_a_long_name_{i}": [i, None] for i in range(12)})
        lines = asof_("sample", "user_visits").stdout.splitlines()

        assert lines[0] == "-- 1 --" and lines[1] == "a_feature_with_a_long_name_0   0"
        assert lines[-1] == "a_feature_with_a_long_name_11  null"


class TestListAndShow:
    def test_everything_is_listed_by_kind(self, asof_: Shell) -> None:
        listed = json.loads(asof_("list", "--output", "json").stdout)["objects"]

        assert [(each["kind"], each["name"]) for each in listed] == [
            ("entity", "user"), ("source", "visits"), ("view", "user_visits"), ("on-demand-view", "doubled"),
            ("service", "model"),
        ]  # fmt: skip

    @pytest.mark.parametrize("width", [80, 120])
    @pytest.mark.parametrize("kind", ["", "entities", "sources", "views", "on-demand-views", "services", "features"])
    def test_a_list_fits_the_terminal_and_breaks_no_word(self, asof_: Shell, kind: str, width: int) -> None:
        args = ["list", *([kind] if kind else [])]
        text, whole = asof_(*args, width=width).stdout, asof_(*args, width=1000).stdout

        assert max(map(len, text.splitlines())) <= width
        table, _, left_out = text.partition("Not shown: ")
        assert {word for word in table.split() if word.strip("-")} <= set(whole.split())
        assert ("description" in table) != left_out.startswith("description; ") or "description" not in whole

    def test_a_view_is_shown_with_how_its_features_are_made(self, asof_: Shell) -> None:
        text = asof_("show", "view", "user_visits", width=120).stdout

        assert "count(*) where page = 'home', session gap 1h" in text
        assert f"defined at   {user_visits.where}" in text or user_visits.where in text

    def test_a_service_and_a_source_are_shown_with_their_parts(self, asof_: Shell) -> None:
        assert "session_visits" in asof_("show", "service", "model").stdout
        assert "visited_at  Timestamp" in asof_("show", "source", "visits").stdout

    def test_a_feature_that_is_not_there_names_the_near_one(self, asof_: Shell) -> None:
        answer = asof_("show", "feature", "doubled:twic")

        assert answer.exit_code == 4 and "did you mean 'doubled:twice'?" in answer.stderr

    def test_there_may_be_none(self, asof_: Shell) -> None:
        assert asof_("show", "training-sets").stdout == "No training sets.\n"
        assert json.loads(asof_("list", "training-sets", "--output", "json").stdout) == {"training_sets": []}

    def test_an_unknown_kind_names_the_near_one(self, asof_: Shell) -> None:
        assert "did you mean 'views'?" in asof_("list", "view_s").stderr


class TestInit:
    def test_it_writes_a_repository_whose_definitions_load(self, asof_: Shell, tmp_path: Path) -> None:
        answer = asof_("init", str(tmp_path / "My Shop"))

        assert answer.exit_code == 0 and "asof apply" in answer.stdout
        assert "project: my_shop\n" in (tmp_path / "My Shop" / "feature_store.yaml").read_text()
        assert (tmp_path / "My Shop" / ".gitignore").exists()
        space: dict[str, Any] = {}
        exec(compile((tmp_path / "My Shop" / "features.py").read_text(), "features.py", "exec"), space)
        assert space["visit_model"].features[0].view.feature_names == (
            "visits_1d", "seconds_1d", "session_visits", "last_page",
        )  # fmt: skip

    def test_it_replaces_nothing(self, asof_: Shell, tmp_path: Path) -> None:
        (tmp_path / "features.py").write_text("mine")
        answer = asof_("init", str(tmp_path))

        assert answer.exit_code == 3 and "has a feature repository already: features.py" in answer.stderr
        assert (tmp_path / "features.py").read_text() == "mine"
        assert not (tmp_path / "feature_store.yaml").exists()


def test_each_command_has_a_module_of_its_name_and_each_module_a_command() -> None:
    folder = Path(commands_package.__file__).parent
    names = sorted(name for section in COMMANDS.values() for name in section)

    assert sorted(path.stem for path in folder.glob("[!_]*.py")) == [name.replace("-", "_") for name in names]
    for name in names:
        command = command_named(name)
        assert command.callback is not None
        assert (command.name, command.callback.__module__) == (name, f"asof.cli.commands.{name.replace('-', '_')}")


class TestKeys:
    def test_the_lines_that_it_prints_let_the_key_in(self, asof_: Shell, tmp_path: Path) -> None:
        answer = asof_("keys", "new", "--name", "rank'ing", "--role", "write", "--expires", "2027-01-01")
        (tmp_path / "feature_store.yaml").write_text("project: shop\n" + answer.stderr.partition("\n\n")[2])

        (key,) = load_config(tmp_path).auth.keys
        assert (key.name, [role.name for role in key.roles]) == ("rank'ing", ["write"])
        assert KeyRing([key]).check(answer.stdout.strip(), micros("2026-12-31")) is key

    def test_as_json_everything_is_in_one_document(self, asof_: Shell) -> None:
        document = json.loads(asof_("keys", "new", "--output", "json").stdout)

        assert document["key"].startswith(f"asof_{document['id']}_") and document["roles"] == ["read"]


class TestProgress:
    def test_lines_come_now_and_then_and_once_at_the_end(self) -> None:
        now, lines = [0.0], []
        report = ProgressLines(lines.append, stopwatch=lambda: now[0], every_s=5)

        for second in range(12):
            now[0] = float(second)
            report("folding", second * 100, None)
        for done in (500, 1000, 1000):
            report("writing", done, 1000)

        assert lines == ["folding: 500", "folding: 1,000", "writing: 1,000 of 1,000 (100 %)"]

    def test_of_a_known_end_they_say_when_it_comes(self) -> None:
        now, lines = [100.0], []
        report = ProgressLines(lines.append, stopwatch=lambda: now[0], every_s=5)

        # Begun with 1,000 of 10,000: what a former run did says nothing of the speed.
        for second, done in [(0, 1000), (10, 2000), (15, 2000), (20, 10_000)]:
            now[0] = 100.0 + second
            report("writing", done, 10_000)

        assert lines == [
            "writing: 2,000 of 10,000 (20 %), about 1m20s left",
            "writing: 2,000 of 10,000 (20 %), about 2m left",
            "writing: 10,000 of 10,000 (100 %)",
        ]

    def test_an_audit_and_a_saved_training_set_report_theirs(self, asof_: Shell, store: FakeStore) -> None:
        def audit(names: Any, *, progress: Any, **_: Any) -> AuditReport:
            progress("audit views", 2, 2)
            return AuditReport(moment(0))

        store.answers["audit"] = audit
        store.answers["get_historical_features"] = lambda *_, **__: SimpleNamespace(
            save=lambda name, overwrite, progress: progress(f"save training set {name}", 7, 7)
        )

        assert asof_("audit").stderr == "audit views: 2 of 2 (100 %)\n"
        assert "set x: 7 of 7" in asof_("get", "historical", "-f", "user_visits:session_visits", "--save", "x").stderr


class TestCompletion:
    def run(self, **variables: str) -> str:
        program = [sys.executable, "-c", "from asof.cli import main; main()"]
        environment = {**ENVIRONMENT, **variables}
        return subprocess.run(program, env=environment, capture_output=True, text=True, check=True).stdout

    @pytest.mark.parametrize("shell", reference.COMPLETION)
    def test_the_documented_line_makes_a_script_for_the_shell(self, shell: str) -> None:
        _, line = reference.COMPLETION[shell]
        (name, value) = re.findall("(_ASOF_COMPLETE)=([a-z_]+) asof", line)[0]
        script = self.run(**{name: value})

        assert line.replace("|", chr(92) + "|") in reference.markdown()
        assert f"_ASOF_COMPLETE={shell}_complete" in script and "asof" in script

    def test_commands_and_options_are_completed(self) -> None:
        found = self.run(_ASOF_COMPLETE="bash_complete", COMP_WORDS="asof ma", COMP_CWORD="1")
        options = self.run(_ASOF_COMPLETE="bash_complete", COMP_WORDS="asof materialize --f", COMP_CWORD="2")

        assert found.split() == ["plain,materialize"] and "plain,--full" in options.split()

    def test_quiet_shows_none(self, asof_: Shell, store: FakeStore) -> None:
        def rebuild(views: Any, *, progress: Any) -> dict[str, int]:
            progress("folding", 10, 10)
            return {"user_visits": 3}

        store.answers["rebuild"] = rebuild

        assert asof_("--quiet", "rebuild").stderr == ""
        assert asof_("rebuild").stderr == "folding: 10 of 10 (100 %)\n"


class TestPlanAndApply:
    @pytest.fixture(autouse=True)
    def answers(self, store: FakeStore) -> None:
        self.plan = Plan("shop", 0, Project(), (Create("entity", "user"),))
        store.answers["plan"] = lambda: self.plan
        store.answers["apply"] = lambda plan, progress: plan

    def test_apply_shows_the_plan_and_asks(self, asof_: Shell, store: FakeStore) -> None:
        declined = asof_("apply", input="n\n")

        assert "entity 'user'" in declined.stdout and declined.exit_code == 1
        assert [name for name, _, _ in store.calls] == ["plan"]

        assert asof_("apply", input="y\n").stdout.endswith("Applied 1 change.\n")
        self.plan = Plan("shop", 0, Project(), (Create("source", "visits"), CreateArchive("visits")))
        assert asof_("apply", input="y\n").stdout.endswith("Applied 1 change.\n"), "one line of the plan"
        assert store.calls[-1][1] == (self.plan,)

    def test_apply_is_one_document(self, asof_: Shell) -> None:
        document = json.loads(asof_("apply", "--yes", "--output", "json").stdout)

        assert document == {"plan": self.plan.to_dict(), "applied": True}

    def test_nothing_to_do_asks_nothing(self, asof_: Shell, store: FakeStore) -> None:
        self.plan = Plan("shop", 3, Project(), ())

        assert asof_("apply").exit_code == 0
        assert json.loads(asof_("apply", "--output", "json").stdout)["applied"] is False
        # Without a question: batch sources of logs may have new rows.
        assert [name for name, _, _ in store.calls] == ["plan", "apply"] * 2
        assert store.calls[1][1] == (self.plan,)

    def test_findings_that_stand_in_the_way_are_a_code_of_their_own(self, asof_: Shell) -> None:
        note = Finding("note", "entity 'user'", "", "", "has no description")
        self.plan = self.plan.with_findings([note])
        assert asof_("plan").exit_code == 0

        self.plan = self.plan.with_findings([Finding("error", "source 'users'", "features.py:3", "a column", "none")])
        answer = asof_("plan")
        assert answer.exit_code == FOUND and "features.py:3" in answer.stdout

    def test_apply_leaves_refusing_to_the_store(self, asof_: Shell, store: FakeStore) -> None:
        self.plan = self.plan.with_findings([Finding("error", "source 'users'", "features.py:3", "a column", "none")])
        store.answers["apply"] = lambda plan, progress: (_ for _ in ()).throw(CheckFailed(["features.py:3: none"]))
        answer = asof_("apply")

        assert answer.exit_code == 6 and answer.stdout == "" and "features.py:3" in answer.stderr

    def test_long_lines_of_a_plan_are_wrapped(self, asof_: Shell) -> None:
        self.plan = self.plan.with_findings([Finding("warning", "source 'users'", "", "", "a word and another " * 10)])
        lines = asof_("plan").stdout.splitlines()

        assert max(map(len, lines)) <= 80 and lines[-1].startswith("    a")

    def test_settings_without_a_meaning_are_noted_on_stderr(self, asof_: Shell) -> None:
        assert asof_("plan").stderr == "note: provider has no meaning in Asof and is ignored\n"


def test_a_group_alone_shows_its_help(asof_: Shell) -> None:
    answer = asof_("get")

    assert answer.exit_code == USAGE and "historical" in answer.stderr and "error" not in answer.stderr


class TestReference:
    def test_it_has_every_command_and_exit_code(self) -> None:
        page = reference.markdown()

        for path, _ in every_command():
            assert path == "asof" or f"\n## {path}\n" in page
        assert all(f"| {code} | " in page for code in EXIT_CODES)

    def test_the_environment_variables_in_it_work(self, asof_: Shell, store: FakeStore) -> None:
        store.answers["dead_letters"] = pa.table({"id": []})
        assert "`ASOF_DEAD_LETTERS_LIST_LIMIT`" in reference.markdown()

        asof_("dead-letters", "list", env={"ASOF_DEAD_LETTERS_LIST_LIMIT": "7"})
        assert store.calls[-1][1] == (None, 7)

        store.answers["sample"] = pa.table({"a": [1]})
        assert "`ASOF_SAMPLE_LIMIT`" in reference.markdown()

        asof_("sample", "user_visits", env={"ASOF_SAMPLE_LIMIT": "3"})
        assert store.calls[-1][2]["n"] == 3


class TestDemo:
    @pytest.fixture(autouse=True)
    def told(self, monkeypatch: pytest.MonkeyPatch) -> list[tuple[Path, dict[str, Any]]]:
        told: list[tuple[Path, dict[str, Any]]] = []

        def run(output: Path, *, progress: Any, say: Any, **options: Any) -> dict[str, Any]:
            told.append((output, options))
            say("1. Simulate the shop")
            return {"seed": options["seed"], "sizes": {"orders": 30}}

        monkeypatch.setitem(sys.modules, "asof.demo.story", SimpleNamespace(run=run))
        monkeypatch.setattr("asof.demo.story", sys.modules["asof.demo.story"], raising=False)
        return told

    def test_it_tells_the_story(self, asof_: Shell, told: list[Any], tmp_path: Path) -> None:
        answer = asof_("demo", "--output", str(tmp_path / "out"), "--users", "50", "--ticks", "500", "--seed", "3")

        assert answer.stdout == "1. Simulate the shop\n"
        assert told == [(tmp_path / "out", {"users": 50, "ticks": 500, "seed": 3, "servers": None})]

    def test_it_plays_on_servers(self, asof_: Shell, told: list[Any], tmp_path: Path) -> None:
        positions = ("--postgres=postgresql://db/shop", "--kafka=broker:9092", "--redis=cache:6379")

        asof_("demo", "--output", str(tmp_path / "out"), *positions, "--offline=postgres", "--format=avro")

        servers = told[0][1]["servers"]
        assert (servers.offline, servers.message_format, servers.project) == ("postgres", "avro", "asof_demo")
        assert servers.variables == {
            "ASOF_POSTGRES": "postgresql://db/shop",
            "ASOF_KAFKA": "broker:9092",
            "ASOF_REDIS": "redis://cache:6379",
        }

    def test_servers_go_together(self, asof_: Shell, told: list[Any], tmp_path: Path) -> None:
        answer = asof_("demo", "--output", str(tmp_path / "out"), "--kafka=broker:9092")

        assert answer.exit_code == 2
        assert "servers go together: also give --postgres and --redis" in answer.stderr
        assert told == []

    @pytest.mark.parametrize("servers", [(), ("--kafka=broker:9092", "--redis=cache:6379")])
    def test_it_plays_in_a_bucket(
        self, asof_: Shell, told: list[Any], tmp_path: Path, servers: tuple[str, ...]
    ) -> None:
        bucket = ("--storage=s3://shop/demo/", "--storage-endpoint=http://s3:9000")

        asof_("demo", "--output", str(tmp_path / "out"), *bucket, *servers)

        given = told[0][1]["servers"]
        assert (given.storage, given.storage_endpoint, given.postgres) == ("s3://shop/demo", "http://s3:9000", "")
        assert bool(given.kafka) == bool(given.redis) == bool(servers)
        assert "ASOF_POSTGRES" not in given.variables

    @pytest.mark.parametrize(
        ("words", "said"),
        [
            (("--storage=s3://shop/demo", "--kafka=broker:9092"), "servers go together: also give --redis"),
            (("--storage=s3://shop/demo", "--postgres=postgresql://db"), "with --storage nothing is in PostgreSQL"),
            (("--storage=s3://shop/demo", "--offline=postgres"), "with --storage nothing is in PostgreSQL"),
            (("--storage-endpoint=http://s3:9000",), "also give --storage"),
            (("--storage=/data/demo",), "write s3://BUCKET/PREFIX"),
            (("--storage=s3://shop/it's",), "write s3://BUCKET/PREFIX"),
        ],
    )
    def test_a_bucket_that_is_asked_for_wrongly_is_refused(
        self, asof_: Shell, told: list[Any], tmp_path: Path, words: tuple[str, ...], said: str
    ) -> None:
        answer = asof_("demo", "--output", str(tmp_path / "out"), *words)

        assert answer.exit_code == 2 and said in " ".join(answer.stderr.split())
        assert told == []

    def test_for_programs_it_is_the_report(self, asof_: Shell, tmp_path: Path) -> None:
        answer = asof_("--output", "json", "demo", "--output", str(tmp_path / "out"))

        assert json.loads(answer.stdout) == {"seed": 7, "sizes": {"orders": 30}}
        assert "Simulate" in answer.stderr

    def test_it_asks_before_it_writes_among_other_things(self, asof_: Shell, told: list[Any], tmp_path: Path) -> None:
        (tmp_path / "mine.txt").write_text("mine")

        assert asof_("demo", "--output", str(tmp_path), input="n\n").exit_code == 1
        assert told == []
        assert asof_("demo", "--output", str(tmp_path), "--yes").exit_code == 0

    def test_it_does_not_ask_about_its_own_earlier_output(self, asof_: Shell, told: list[Any], tmp_path: Path) -> None:
        (tmp_path / "repo").mkdir()
        (tmp_path / "repo" / "feature_store.yaml").write_text("project: shop\n")

        assert asof_("demo", "--output", str(tmp_path)).exit_code == 0
        assert len(told) == 1
