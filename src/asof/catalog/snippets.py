"""Code that reads features of this project, ready to be copied: every snippet runs as it is shown.

Python and the command line run in the repository's folder; HTTP requests and the client need a running `asof serve`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from shlex import quote

from asof.dtypes import DType
from asof.sql.training_rows import training_rows
from asof.timing import iso, micros
from asof.values.json import writer

TIME = "event_timestamp"
"""The time column of the training rows."""

SQL_ROWS = 1_000
"""How many training rows the SQL of a snippet chooses at most."""


@dataclass(frozen=True)
class TypedValue:
    """A value of a declared type."""

    value: object
    dtype: DType


@dataclass(frozen=True)
class SqlRows:
    """A source whose rows can be training rows: its columns by the names that SQL uses.

    Args:
        keys: column of the source → join key.
        time: the column of the event time.
        unit: of an integer time; empty for a timestamp.
    """

    source: str
    keys: Mapping[str, str]
    time: str
    unit: str = ""


@dataclass(frozen=True)
class SnippetSubject:
    """What snippets read, for whom and as of when.

    Args:
        features: references `view:feature`; empty where a service is read.
        service: the name of a feature service; empty where features are.
        keys, request: join keys and request values by name.
        at: the time of the training row.
        sql: where the training rows of the SQL come from; None where no source has all the join keys.
        training_set: a name to save the rows under.
        server: the address of the feature server.
        is_guarded: whether it needs an API key.
        full_names: whether features have to be named `view__feature`, as two share a name.
        is_served: whether there are values to be served.
    """

    features: Sequence[str]
    keys: Mapping[str, TypedValue]
    at: datetime
    service: str = ""
    request: Mapping[str, TypedValue] | None = None
    sql: SqlRows | None = None
    training_set: str = "training_set"
    server: str = "http://localhost:6566"
    is_guarded: bool = False
    full_names: bool = False
    is_served: bool = True

    @property
    def row(self) -> dict[str, TypedValue]:
        """The entity row: join keys, then request values."""
        return {**self.keys, **(self.request or {})}


@dataclass(frozen=True)
class Snippet:
    """Code to copy.

    Args:
        id: unique among the snippets of a subject.
        task: what it is for: `train` or `serve`.
        label: what it is, for people.
        language: `python` or `shell`.
    """

    id: str
    task: str
    label: str
    language: str
    text: str


def snippets_of(subject: SnippetSubject) -> list[Snippet]:
    """All snippets that apply to a subject."""
    found = [Snippet("train-frame", "train", "Python, from a data frame", "python", train_from_frame(subject))]
    if subject.sql is not None and not subject.request:
        found += [
            Snippet("train-sql", "train", "Python, rows chosen by SQL", "python", train_from_sql(subject)),
            Snippet("train-save", "train", "Python, a saved training set", "python", save_training_set(subject)),
            Snippet("train-cli", "train", "Command line", "shell", train_by_cli(subject)),
        ]
    if subject.is_served:
        found += [
            Snippet("serve-python", "serve", "Python, next to the store", "python", serve_by_store(subject)),
            Snippet("serve-client", "serve", "Python, from the feature server", "python", serve_by_client(subject)),
            Snippet("serve-http", "serve", "HTTP", "shell", serve_by_http(subject)),
            Snippet("serve-cli", "serve", "Command line", "shell", serve_by_cli(subject)),
        ]
    return found


def train_from_frame(subject: SnippetSubject) -> str:
    """Python: the features of one training row of a pandas data frame."""
    columns = [f"    {_python(name)}: [{_literal(each)}],\n" for name, each in subject.row.items()]
    lines = [
        f'rows = pd.DataFrame({{\n{"".join(columns)}    "{TIME}": [pd.Timestamp("{_time(subject.at)}")],\n}})',
        _historical("training = ", subject, ".to_df()"),
        "print(training)",
    ]
    return _python_file(["import pandas as pd", *_imports(subject)], ["", "store = FeatureStore()", *lines])


def train_from_sql(subject: SnippetSubject) -> str:
    """Python: the features of training rows that SQL chooses."""
    lines = [_sql_lines(subject), _historical("training = ", subject, ".to_df()"), "print(training)"]
    return _python_file([_STORE], ["", "store = FeatureStore()", *lines])


def save_training_set(subject: SnippetSubject) -> str:
    """Python: keep training rows under a name."""
    name = _python(subject.training_set)
    lines = [
        _sql_lines(subject),
        _historical("saved = ", subject, f".save({name}, overwrite=True)"),
        "print(saved.rows, saved.reproducible)",
        f"training = store.read_training_set({name}).to_df()",
    ]
    return _python_file([_STORE], ["", "store = FeatureStore()", *lines])


def rebuild_training_set(name: str) -> str:
    """Python: make a saved training set again, and compare each value."""
    lines = [f"report = store.rebuild_training_set({_python(name)})", "print(report)"]
    return _python_file([_STORE], ["", "store = FeatureStore()", *lines])


def train_by_cli(subject: SnippetSubject) -> str:
    """Shell: the features of training rows that SQL chooses, as a file."""
    return _shell(
        "asof get historical", f"--sql {quote(_sql(subject, line=' '))}", *_options(subject),
        "--out training.parquet",
    )  # fmt: skip


def serve_by_store(subject: SnippetSubject) -> str:
    """Python: the features now, read from the online store."""
    lines = [
        _call("response = store.get_online_features", [_features(subject), f"[{_row(subject)}]", *_full(subject)]),
        "print(response.to_dict())",
    ]
    return _python_file(_imports(subject), ["", "store = FeatureStore()", *lines])


def serve_by_client(subject: SnippetSubject) -> str:
    """Python: the features now, from a feature server."""
    imports = [*(["import os"] if subject.is_guarded else []), "from asof.client import Client"]
    key = ', api_key=os.environ["ASOF_API_KEY"]' if subject.is_guarded else ""
    lines = [
        f"with Client({_python(subject.server)}{key}) as client:",
        _call("    response = client.get_online_features", [_features(subject), f"[{_row(subject)}]", *_full(subject)]),
        "print(response.to_dict())",
    ]
    return _python_file([*imports, *_value_imports(subject)], ["", *lines])


def serve_by_http(subject: SnippetSubject) -> str:
    """Shell: the features now, by curl."""
    body: dict[str, object] = {"service": subject.service} if subject.service else {"features": list(subject.features)}
    body["entities"] = {name: [_json(each)] for name, each in subject.row.items()}
    if subject.full_names:
        body["full_feature_names"] = True
    key = ['-H "Authorization: Bearer $ASOF_API_KEY"'] if subject.is_guarded else []
    text = json.dumps(body, ensure_ascii=False)
    return _shell(f"curl -s {quote(f'{subject.server}/v1/features')}", *key, f"-d {quote(text)}")


def serve_by_cli(subject: SnippetSubject) -> str:
    """Shell: the features now, by `asof get online`."""
    texts = {name: _key_text(each) for name, each in subject.row.items()}
    if texts and all(text is not None and "=" not in name and name.strip() == name for name, text in texts.items()):
        keys = [f"--key {quote(f'{name}={text}')}" for name, text in texts.items()]
    else:
        row = {name: _json(each) for name, each in subject.row.items()}
        keys = [f"--rows {quote(json.dumps([row], ensure_ascii=False))}"]
    return _shell("asof get online", *_options(subject), *keys)


# ---- Python ----

_STORE = "from asof import FeatureStore"


def _python_file(imports: Sequence[str], lines: Sequence[str]) -> str:
    """A file: imports of the standard library come first."""
    ordered = sorted(set(imports), key=lambda each: (each.split()[1].split(".")[0] not in _STANDARD, each))
    return "\n".join([*ordered, *lines]) + "\n"


_STANDARD = ("os", "datetime", "decimal")


def _imports(subject: SnippetSubject) -> list[str]:
    return [_STORE, *_value_imports(subject)]


def _value_imports(subject: SnippetSubject) -> list[str]:
    kinds = {type(each.value) for each in subject.row.values()}
    return [
        *(["from decimal import Decimal"] if Decimal in kinds else []),
        *(["from datetime import date, datetime"] if kinds & {date, datetime} else []),
    ]


def _historical(left: str, subject: SnippetSubject, then: str) -> str:
    return _call(f"{left}store.get_historical_features", ["rows", _features(subject), *_full(subject)], then)


def _call(left: str, arguments: Sequence[str], then: str = "") -> str:
    """A call on one line where that is in sight without scrolling, else an argument per line."""
    line = f"{left}({', '.join(arguments)}){then}"
    if len(line) <= _PYTHON_LINE:
        return line
    space = left[: len(left) - len(left.lstrip())]
    return "\n".join([f"{left}(", *(f"{space}    {each}," for each in arguments), f"{space}){then}"])


_PYTHON_LINE = 68


def _features(subject: SnippetSubject) -> str:
    if subject.service:
        return _python(subject.service)
    return f"[{', '.join(map(_python, subject.features))}]"


def _full(subject: SnippetSubject) -> list[str]:
    return ["full_feature_names=True"] if subject.full_names else []


def _row(subject: SnippetSubject) -> str:
    return "{" + ", ".join(f"{_python(name)}: {_literal(each)}" for name, each in subject.row.items()) + "}"


def _python(text: str) -> str:
    """A text in Python, in the double quotes that the rest of the code has where that is possible."""
    shown = repr(text)
    if shown[0] == "'" and '"' not in text and "\\" not in shown:
        return f'"{text}"'
    return shown


def _literal(each: TypedValue) -> str:
    value = each.value
    if isinstance(value, datetime):
        return f'datetime.fromisoformat("{_time(value)}")'
    if isinstance(value, date):
        return f'date.fromisoformat("{value.isoformat()}")'
    return _python(value) if isinstance(value, str) else repr(value)


def _time(moment: datetime) -> str:
    return iso(micros(moment))


# ---- SQL ----


def _sql(subject: SnippetSubject, *, line: str) -> str:
    sql = subject.sql
    assert sql is not None, "a snippet with SQL needs a source"
    return line.join(training_rows(sql.source, sql.keys, time=sql.time, unit=sql.unit, time_name=TIME, limit=SQL_ROWS))


def _sql_lines(subject: SnippetSubject) -> str:
    text = _sql(subject, line="\n    ")
    if '"""' in text or "\\" in text:
        return f"rows = {text!r}"
    return f'rows = """\n    {text}\n"""'


# ---- the command line ----


def _options(subject: SnippetSubject) -> list[str]:
    features = (
        [f"--service {quote(subject.service)}"]
        if subject.service
        else [f"--features {quote(each)}" for each in subject.features]
    )
    return [*features, *(["--full-feature-names"] if subject.full_names else [])]


def _shell(*parts: str) -> str:
    """A command on one line where it fits, else one option per line."""
    line = " ".join(parts)
    return (line if len(line) <= _LINE else " \\\n  ".join(parts)) + "\n"


_LINE = 76


def _key_text(each: TypedValue) -> str | None:
    """A value as `--key` takes it; None where it needs JSON."""
    if each.dtype.name in ("String", "Timestamp", "Date", "Int32", "Int64", "Bool"):
        value = _json(each)
        return value if isinstance(value, str) else json.dumps(value)
    return None


def _json(each: TypedValue) -> object:
    write = writer(each.dtype)
    return each.value if write is None else write(each.value)


__all__ = [
    "Snippet", "SnippetSubject", "SqlRows", "TypedValue", "rebuild_training_set", "save_training_set", "serve_by_cli",
    "serve_by_client", "serve_by_http", "serve_by_store", "snippets_of", "train_by_cli", "train_from_frame",
    "train_from_sql",
]  # fmt: skip
