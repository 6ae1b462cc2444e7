"""Errors name a command's options, not the arguments of the Python method that it calls."""

from __future__ import annotations

import ast
import inspect
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import click
import pytest

import asof
from asof import FeatureStore
from asof.cli.app import COMMANDS, command_named
from asof.cli.arguments import NAMES, spelled_for
from asof.errors import Argument, AsofError, RequestError
from asof.flows.admin.sample import sample
from asof.flows.batch.materialize import materialize
from asof.flows.offline.result import HistoricalResult
from asof.timing import moment_given
from tests.cli_shell import FakeStore, Shell
from tests.unit.architecture.tree import parsed

SOURCE = Path(__file__).parents[2] / "src" / "asof"

CALLED: dict[str, tuple[Callable[..., Any], ...]] = {
    "apply": (FeatureStore.apply,),
    "audit": (FeatureStore.audit,),
    "backfill": (FeatureStore.backfill,),
    "backup": (FeatureStore.backup,),
    "compact": (FeatureStore.compact,),
    "restore": (FeatureStore.restore,),
    "dead-letters list": (FeatureStore.dead_letters,),
    "dead-letters replay": (FeatureStore.replay_dead_letters,),
    "dead-letters show": (FeatureStore.dead_letter,),
    "doctor": (FeatureStore.doctor,),
    "explain": (FeatureStore.explain,),
    "forget": (FeatureStore.forget,),
    "get historical": (FeatureStore.get_historical_features, HistoricalResult.save),
    "get online": (FeatureStore.get_online_features,),
    "history": (FeatureStore.history,),
    "materialize": (FeatureStore.materialize,),
    "plan": (FeatureStore.plan,),
    "profile": (FeatureStore.profile,),
    "push": (FeatureStore.push,),
    "rebuild": (FeatureStore.rebuild,),
    "run": (FeatureStore.run_schedule,),
    "runs": (FeatureStore.runs,),
    "sample": (FeatureStore.sample,),
    "stats": (FeatureStore.profile,),
    "stream run": (FeatureStore.stream_run,),
    "stream status": (FeatureStore.stream_status,),
    "teardown": (FeatureStore.teardown,),
}
"""Command → the methods that it calls."""

WITHOUT_STORE = {"demo", "init", "keys new", "lineage", "list", "search", "serve", "show", "ui"}
"""Commands that call no method with arguments of their user's, or none of the store's."""

NOT_GIVEN = {
    "self", "progress", "stop", "waiting",  # the command's own
    "to",  # accepted for Feast's sake, and ignored
    "plan", "objects",  # what the command itself planned
    "name",  # the value of --save
}  # fmt: skip


GIVEN_ITSELF = {"stats": {"views", "compare", "keep"}}
"""Command → the arguments that it gives by itself: its one view, and what makes a look that leaves no trace."""


def leaves() -> Iterator[tuple[str, click.Command]]:
    for name in (name for section in COMMANDS.values() for name in section):
        command = command_named(name)
        if isinstance(command, click.Group):
            yield from ((f"{name} {each}", command.commands[each]) for each in command.commands)
        else:
            yield name, command


def test_every_command_is_in_one_of_the_lists() -> None:
    assert {name for name, _ in leaves()} == CALLED.keys() | WITHOUT_STORE


@pytest.mark.parametrize(("name", "command"), [(name, command) for name, command in leaves() if name in CALLED])
def test_each_argument_of_what_a_command_calls_is_one_of_its_options(name: str, command: click.Command) -> None:
    parameters = {each for method in CALLED[name] for each in inspect.signature(method).parameters} - NOT_GIVEN
    parameters -= GIVEN_ITSELF.get(name, set())
    own = {option for param in command.params for option in (*param.opts, param.human_readable_name)}
    spelled = {each: spelled_for(command, Argument(each)).split(" or ") for each in sorted(parameters)}

    assert {each: [text for text in texts if text not in own] for each, texts in spelled.items()} == {
        each: [] for each in spelled
    }


@pytest.mark.parametrize(("name", "command"), list(leaves()))
def test_an_error_names_each_option_as_it_is_typed(name: str, command: click.Command) -> None:
    for option in (each for each in command.params if isinstance(each, click.Option) and each.name not in NAMES):
        assert option.name is not None
        argument = Argument(option.name, 7)
        error = RequestError(f"{argument} is odd", hint=f"leave out {argument}", arguments=[argument])
        error.spell_arguments(lambda each: spelled_for(command, each))
        text = option.opts[0] if option.is_flag else f"{max(option.opts, key=len)} 7"

        assert (error.message, error.hint) == (f"{text} is odd", f"leave out {text}")


def said(*arguments: Argument) -> RequestError:
    return RequestError(f"wrong: {', '.join(map(str, arguments))}", hint=f"pass {arguments[0]}", arguments=arguments)


@pytest.mark.parametrize(
    ("words", "error", "message", "hint"),
    [
        ("get historical -f v:a --sql x", said(Argument("full_feature_names", True)), "wrong: --full-feature-names",
         "pass --full-feature-names"),
        ("get historical -f v:a", said(Argument("entity_df")), "wrong: --entities or --sql", "pass --entities or --sql"),
        ("get historical -f v:a --save x", said(Argument("overwrite", True)), "wrong: --overwrite", "pass --overwrite"),
        ("get historical -f v:a", said(Argument("start_date", "x y"), Argument("end_date")),
         "wrong: --start 'x y', --end", "pass --start 'x y'"),
        ("sample v", said(Argument("n", 0)), "wrong: --limit 0", "pass --limit 0"),
        ("sample v", said(Argument("by", "x\\1")), "wrong: --by 'x\\1'", "pass --by 'x\\1'"),
        ("dead-letters list", said(Argument("limit", 0)), "wrong: --limit 0", "pass --limit 0"),
        ("materialize", said(Argument("full", True), Argument("feature_views")), "wrong: --full, VIEWS", "pass --full"),
        ("push visits {}", said(Argument("batch_id")), "wrong: --batch-id", "pass --batch-id"),
        ("push visits {}", said(Argument("no_option", 1)), "wrong: no_option=1", "pass no_option=1"),
    ],
)  # fmt: skip
def test_a_command_says_its_options(words: str, error: AsofError, message: str, hint: str) -> None:
    store = FakeStore()
    for verb in ("get_historical_features", "sample", "dead_letters", "materialize", "push"):
        store.answers[verb] = None
    store.fails = error

    assert Shell(store)(*words.split(" ")).stderr == f"error: {message}\n  next: {hint}\n"


def test_the_document_of_an_error_says_them_too() -> None:
    store = FakeStore()
    store.answers["sample"] = None
    store.fails = said(Argument("n", 0))
    answer = json.loads(Shell(store)("sample", "v", "--output", "json").stderr)

    assert (answer["message"], answer["hint"]) == ("wrong: --limit 0", "pass --limit 0")


def test_a_mention_is_a_whole_word() -> None:
    error = RequestError("n=1, seen=1 and n=12", arguments=[Argument("n", 1)])
    error.spell_arguments(lambda each: "--limit 1")

    assert error.message == "--limit 1, seen=1 and n=12"


def test_in_python_an_error_names_arguments() -> None:
    assert str(said(Argument("n", 0), Argument("entity_df"))) == "wrong: n=0, entity_df=\n  next: pass n=0"


# ---- no error may mention an argument as mere text ----

DEFINITIONS = [
    each for name in asof.__all__ if inspect.isclass(each := getattr(asof, name)) and each is not FeatureStore
]
OF_DEFINITIONS = {name for each in DEFINITIONS for name in inspect.signature(each).parameters}
ARGUMENTS = {
    name for methods in CALLED.values() for method in methods for name in inspect.signature(method).parameters
} - OF_DEFINITIONS - NOT_GIVEN  # fmt: skip
"""Arguments of methods that commands call; what definitions have too, a repository's author writes in Python."""

MENTION = re.compile(rf"(?<![\w.'])({'|'.join(sorted(ARGUMENTS))})=")
BELOW_COMMANDS = ("flows", "derive", "values", "sql", "offline", "online", "log", "registry", "sources", "planning")


def mentions(tree: ast.AST) -> list[str]:
    """What errors say in plain text of arguments."""
    calls = (each for each in ast.walk(tree) if isinstance(each, ast.Call))
    errors = (each for each in calls if isinstance(each.func, ast.Name) and each.func.id[:1].isupper())
    texts = (each.value for call in errors for each in ast.walk(call) if isinstance(each, ast.Constant))
    return [text for text in texts if isinstance(text, str) and MENTION.search(text)]


def test_errors_mention_arguments_so_that_a_command_can_spell_them() -> None:
    files = [SOURCE / "selection.py", SOURCE / "timing.py"]
    files += [path for folder in BELOW_COMMANDS for path in sorted((SOURCE / folder).rglob("*.py"))]

    assert {"batch_id", "entity_df", "full_feature_names", "known_at"} <= ARGUMENTS
    assert {str(path): found for path in files if (found := mentions(parsed(path)))} == {}


@pytest.mark.parametrize("code", ['RequestError("x", hint="pass entity_df=")', "RequestError(f'batch_id={text}')"])
def test_the_scan_sees_mentions(code: str) -> None:
    assert mentions(ast.parse(code))


NOTHING: Any = SimpleNamespace()
"""Stores and definitions that nobody looks at before the arguments."""


@pytest.mark.parametrize(
    ("call", "mentioned"),
    [
        (lambda: sample(NOTHING, NOTHING, "v", n=0), "--limit 0"),
        (lambda: sample(NOTHING, NOTHING, "v", by="x"), "--by x"),
        (lambda: materialize(NOTHING, full=True, start=0), "leave out --start and --end, or --full"),
        (lambda: moment_given("noon", "start_date"), "--start noon is not a time"),
    ],
)
def test_what_is_raised_can_be_spelled(call: Callable[[], object], mentioned: str) -> None:
    command = command_named("sample" if mentioned.startswith(("--limit", "--by")) else "materialize")
    with pytest.raises(RequestError) as caught:
        call()
    assert caught.value.arguments
    caught.value.spell_arguments(lambda each: spelled_for(command, each))

    assert mentioned in str(caught.value)
