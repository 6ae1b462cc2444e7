"""Write the pages of docs/reference/ from the code: `make docs`. The tests compare them with what is committed."""

# ruff: noqa: E501 - sentences of the pages stand whole
from __future__ import annotations

import inspect
import json
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
OUTPUT = ROOT / "docs" / "reference"
NOTE = "<!-- Written by scripts/generate_docs.py. Do not edit: run `make docs`. -->\n"

GROUPS = {
    "The store": ("FeatureStore",),
    "Definitions": (
        "Entity", "Field", "FeatureView", "Expectation", "Aggregation", "Sliding", "Session", "OnDemandFeatureView",
        "on_demand_feature_view", "FeatureService", "BatchFeatureView", "StreamFeatureView",
    ),
    "Sources": (
        "FileSource", "PostgresSource", "PostgreSQLSource", "KafkaSource", "LogSource", "PushSource", "RequestSource",
        "ParquetFormat", "CsvFormat", "DeltaFormat", "JsonFormat", "AvroFormat", "ProtoFormat",
    ),
    "The client of a server": ("Client", "AsyncClient"),
    "Errors": ("AsofError",),
}  # fmt: skip
"""How the public names of `asof` stand on the page of the Python interface; each is in one group."""

TYPES = {
    "Bool": ("true or false", "`bool`; no 0 or 1"),
    "Int32": ("whole numbers of 32 bits", "`int`, or a `float` without a fraction, up to 2**53"),
    "Int64": ("whole numbers of 64 bits", "`int`, or a `float` without a fraction, up to 2**53"),
    "Float32": ("numbers of 32 bits; the nearest value is kept", "`float`, or an `int` that it can hold exactly"),
    "Float64": ("numbers of 64 bits", "`float`, or an `int` that it can hold exactly"),
    "Decimal": (
        "exact numbers; `Decimal(precision, scale)` with up to 38 digits",
        "`decimal.Decimal`, `int`, or text; never a `float`, never rounded",
    ),
    "String": ("text", "`str`"),
    "Bytes": ("bytes", "`bytes`; base64 text in JSON messages"),
    "Date": ("a day", "`datetime.date`, or ISO 8601 text"),
    "Timestamp": ("a moment: UTC, microseconds", "`datetime`, or ISO 8601 text; without a zone it is UTC"),
    "UnixTimestamp": ("Feast's name for Timestamp", "as Timestamp"),
    "Json": ("a JSON document", "text that is JSON, or what can be written as JSON"),
    "Array": ("a list: `Array(String)`; elements may be null", "a list"),
    "Embedding": ("a vector of n Float32: `Embedding(384)`", "a list of exactly n numbers, none of them null"),
}
"""Name in `asof.types` → what it holds, and what may be written into it."""

AGGREGATES = {
    "count": ("How many rows; with a column: how many values.", "0"),
    "sum": ("The sum. Integers are added exactly; a sum outside Int64 is null.", "null"),
    "mean": ("The mean. Also called `avg`.", "null"),
    "min": ("The least value.", "null"),
    "max": ("The greatest value; NaN is greater than all.", "null"),
    "std": ("The sample standard deviation; null of one value.", "null"),
    "var": ("The sample variance; null of one value.", "null"),
    "first": ("The value of the first row, by the order of rows.", "null"),
    "last": ("The value of the last row, by the order of rows. Also called `latest`.", "null"),
    "count_distinct": ("How many different values; NaN is one value.", "0"),
    "last_n": ("The last `n` values as a list, oldest first.", "null"),
}
"""Aggregate function → its meaning, and its value where there are no values to aggregate."""


def http() -> str:
    from asof.config.auth import ACTIONS
    from asof.server.http.openapi import ANSWERS, REFUSALS, document
    from asof.server.http.routes import ROUTES
    from asof.server.pages.routes import PAGE_ROUTES

    schemas = document(ROUTES)["components"]["schemas"]
    lines = [
        "# HTTP", "",
        "The routes of `asof serve`, also as an OpenAPI document: `GET /openapi.json`. How to use them: "
        "[serve features](../how-to/serve.md). Who may call them: [secure a server](../how-to/secure.md).", "",
        "| route | what it does | role |", "| --- | --- | --- |",
    ]  # fmt: skip
    for route in ROUTES:
        lines.append(_row([f"`{route.method} {route.path}`", route.summary, route.action or "none"]))
    lines += [
        "", "## Who may call them", "",
        "*its own*: for views that have all tags of the role, and of them alone; of others it shows neither names nor their number, "
        "and a name that is not applied is refused in the same way. `/ready` shows all its status, and the rest to "
        "who may read the whole project. See [roles](../how-to/secure.md#roles).", "",
        _row(["route", "no key", *(f"{allow}{kind}" for kind in ("", ", with tags") for allow in ACTIONS)]),
        "| --- |" + " --- |" * 7,
    ]  # fmt: skip
    for route in (*ROUTES, *PAGE_ROUTES):
        cells = [
            route.access(None),
            *(route.access(each, is_narrow=tags) for tags in (False, True) for each in ACTIONS),
        ]
        lines.append(_row([f"`{route.method} {route.path}`", *cells]))
    for route in ROUTES:
        if route.content is None:
            continue
        lines += [
            "",
            f"## {route.method} {route.path}",
            "",
            "| field | type | default | meaning |",
            "| --- | --- | --- | --- |",
        ]
        schema = schemas[route.content.__name__]
        for name, field in schema["properties"].items():
            default = "required" if name in schema.get("required", ()) else f"`{_json(field.get('default'))}`"
            lines.append(_row([f"`{name}`", _kind(field), default, field.get("description", "")]))
        for name, text in route.query.items():
            lines.append(_row([f"`?{name}=true`", "flag", "`false`", text]))
        for status, text in route.answers.items():
            lines += ["", f"{status}: {text}"]
    own = ", ".join(f"`{route.path}`" for route in ROUTES if not route.is_feast)
    lines += ["", "## Errors", "", "| status | meaning |", "| ---: | --- |"]
    lines += [_row([str(status), text]) for status, text in REFUSALS.items()]
    lines += [
        "",
        "The body depends on the route:", "",
        f"- **Asof's routes** ({own}, and unknown paths below `/v1`) return a JSON object with `code` (the "
        "[error class](errors.md)), `message`, `hint` (the next step, may be empty), and `where` (`file:line`) if the error "
        "is about a definition. The `error` of a failed job is the same object.",
        "- **Feast's routes** return what Feast's client parses: a JSON string that contains JSON with `module`, `class` and "
        "`message`; `code` and `hint` are added.",
        "- **409** of the materialize routes is Feast's `{\"error\": message, \"feature_views\": names}`; `job` is added.",
        "",
        "## Values in JSON", "",
        "Timestamps are ISO 8601 text on `/v1/features`, and whole epoch seconds on Feast's routes, as in Feast; requests may use "
        "either. Bytes are base64, decimals are text with all digits, dates are `2026-11-23`, and floats without a JSON form are "
        "`\"NaN\"`, `\"Infinity\"` and `\"-Infinity\"`.",
    ]  # fmt: skip
    assert ANSWERS
    return "\n".join(lines) + "\n"


def _json(value: Any) -> str:
    import json

    return json.dumps(value)


def _kind(field: dict[str, Any]) -> str:
    kinds = [each.get("type", "") for each in field.get("anyOf", [field])]
    if "enum" in field:
        return " or ".join(f"`{each}`" for each in field["enum"])
    words = {"object": "an object", "array": "a list", "string": "text", "boolean": "flag", "null": "null"}
    return " or ".join(words.get(each, each) for each in kinds)


def pages() -> dict[str, str]:
    """File name below docs/reference/ → its text."""
    from asof.cli.reference import markdown

    made = {
        "cli.md": markdown, "config.md": config, "errors.md": errors, "expressions.md": expressions, "types.md": types,
        "aggregations.md": aggregations, "python.md": python, "http.md": http,
    }  # fmt: skip
    return {name: _noted(write()) for name, write in made.items()}


def _noted(page: str) -> str:
    title, rest = page.split("\n", 1)
    return f"{title}\n\n{NOTE}{rest}" if rest.startswith("\n") else f"{title}\n\n{NOTE}\n{rest}"


# ---- Pages ----


def config() -> str:
    """Every key of feature_store.yaml."""
    from asof.config.reference import CONNECTIONS, ON_SERVERS, REFERENCE, SECTIONS, feast_tables
    from asof.config.sections import AUTH

    lines = [
        "# feature_store.yaml", "",
        "The file stands at the root of the feature repository. `${VAR}` and `${VAR:-default}` come from the environment, `$$` "
        "is a dollar sign. A key that is not known is an error, which names the nearest one. `feature_store.<env>.yaml`, "
        "asked for by `--env <env>`, is laid over it: see [environments](../how-to/environments.md).", "",
        "Kinds: `text`; `prefix`, text that may be empty; `path`, relative to the file; `integer` and `number`, above 0 "
        "where no bounds are given; `moment`, in ISO 8601; `size`, like `4GB`; `flag`, `true` or `false`; `list`, of texts; "
        "`path or address`, a path or an address in object storage such as `s3://bucket/prefix`; "
        "`settings`, names and values of someone else's; `part`, a group of keys; else the values that are allowed. "
        "Numbers carry their unit at the end of the name: `_s` are seconds.", "",
    ]  # fmt: skip
    others = ("storage", "messages", "server", "logging", "schedule", *(each.SECTION for each in AUTH))
    for section in ("", *SECTIONS, CONNECTIONS, *others):
        lines += [f"{'###' if '.' in section else '##'} {section or 'The top level'}", ""]
        if section == CONNECTIONS:
            lines += [
                "Each key is a connection's name. `connection_ref=` of a source names one, `connection:` of a store takes over "
                "its keys; " + ", ".join(f"`{part}` of type `{product}`" for part, product in sorted(ON_SERVERS)) +
                " also take these keys themselves.", "",
            ]  # fmt: skip
        lines += ["| key | product | kind | default | meaning |", "| --- | --- | --- | --- | --- |"]
        for option in REFERENCE:
            if option.section == section:
                also = ", ".join(f"`{each}`" for each in option.also)
                meaning = f"{option.meaning} Also spelled {also}." if also else option.meaning
                lines.append(
                    _row([f"`{option.path}`", option.product, option.shown_kind, option.shown_default, meaning])
                )
        lines.append("")
    lines += ["## Feast's keys", "", "These are taken with a note, and have no meaning here.", ""]
    lines += ["| part | keys |", "| --- | --- |"]
    for section, keys in feast_tables().items():
        if keys:
            lines.append(_row([f"`{section}`" if section else "the top level", ", ".join(f"`{key}`" for key in keys)]))
    return "\n".join(lines) + "\n"


def errors() -> str:
    """The tree of errors."""
    from asof.cli.exit_codes import EXIT_CODES
    from asof.errors import AsofError

    lines = [
        "# Errors", "",
        "All errors of Asof are `asof.AsofError`. Each has `message`, `hint` (the next step), `where` (`file:line` of the "
        "definition that it is about) and `to_dict()`. A driver's exception is never raised bare: it is the `__cause__`, "
        "and `asof --debug` shows it. The last column is the exit code of the command line.", "",
        "| error (in `asof.errors`) | meaning | exit code |", "| --- | --- | ---: |",
    ]  # fmt: skip
    for depth, each in _tree(AsofError):
        summary = inspect.cleandoc(each.__doc__ or "").split("\n\n")[0]
        lines.append(_row(["&nbsp;" * 4 * depth + f"`{each.__name__}`", summary, str(each.exit_code)]))
    lines += ["", "## Exit codes", "", "| code | meaning |", "| ---: | --- |"]
    lines += [_row([str(code), meaning]) for code, meaning in sorted(EXIT_CODES.items())]
    return "\n".join(lines) + "\n"


def expressions() -> str:
    """The expression language."""
    import asof.expressions
    from asof.expressions.language import MAX_DEPTH, MAX_TEXT, RESERVED

    _, decisions = inspect.cleandoc(asof.expressions.__doc__ or "").split("\n\n", 1)
    lines = [
        "# Expressions", "",
        "`where=` and `column=` of an [aggregation](aggregations.md) take an expression of this closed language. "
        "`asof plan` refuses anything else. One suite runs every form of it with nulls, negatives and extremes on every "
        "engine.", "", "## What is settled", "", decisions.split("\n\n", 1)[-1], "",
    ]  # fmt: skip
    for heading, words in asof.expressions.SUPPORTED.items():
        lines += [f"## {heading.capitalize()}", "", "| form | meaning |", "| --- | --- |"]
        lines += [_row([f"`{word.form}`", word.meaning]) for word in words]
        lines.append("")
    lines += [
        "## Limits", "",
        f"An expression has at most {MAX_TEXT:,} characters and is nested at most {MAX_DEPTH} deep. These words are columns "
        f"only in double quotes: {', '.join(sorted(RESERVED))}.",
    ]  # fmt: skip
    return "\n".join(lines) + "\n"


def types() -> str:
    """The value types."""
    import asof.types
    from asof.dtypes import DType

    lines = [
        "# Types", "",
        "Types are imported from `asof.types`. No value is bent silently: 3.7 does not fit Int64, 12 does not fit String, "
        "2**63 fits no integer type. See [time and types](../concepts/time-and-types.md).", "",
        "| type | holds | may be written as | Arrow |", "| --- | --- | --- | --- |",
    ]  # fmt: skip
    for name in sorted(TYPES, key=list(TYPES).index):
        holds, written = TYPES[name]
        made = getattr(asof.types, name)
        shown = made if isinstance(made, DType) else made(asof.types.Int64) if name == "Array" else made(384)
        label = str(shown) if name in ("Array", "Embedding") else name
        lines.append(_row([f"`{label}`", holds, written, f"`{shown.arrow()}`"]))
    return "\n".join(lines) + "\n"


def aggregations() -> str:
    """The aggregate functions and windows."""
    from asof import types as t
    from asof.definitions.windows import MAX_HOPS, Aggregation
    from asof.timing import DAY, HOUR, MINUTE, SECOND, default_hop, span_text

    lines = [
        "# Aggregations", "",
        "An `Aggregation` is one feature of a view: a function over the events of a window that ends at the asked moment. "
        "What a window holds is in [semantics](../concepts/semantics.md), how to write one in "
        "[aggregations and expressions](../how-to/aggregations.md).", "",
        "## Functions", "", "Nulls are passed over, in every function.", "",
        "| function | returns | without values | of Int64 | of Float64 | of Decimal(12,2) | of String |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]  # fmt: skip
    samples = (t.Int64, t.Float64, t.Decimal(12, 2), t.String)
    for name, (meaning, empty) in AGGREGATES.items():
        given = Aggregation("x", name, n=3 if name == "last_n" else 0)
        outputs = [
            "" if name in ("sum", "mean", "std", "var") and dtype is t.String else f"`{given.output_dtype(dtype)}`"
            for dtype in samples
        ]
        lines.append(_row([f"`{name}`", meaning, empty, *outputs]))
    lines += ["", "## Windows", "", "| window | meaning |", "| --- | --- |"]
    lines += [
        _row(["`Sliding(length, hop)`", "The last `length`. The newest edge is exact, the oldest moves in hops"]),
        _row(["`Session(gap)`", "The chain of events at most `gap` apart that is still open"]),
        _row(["none", "All events ever"]),
        "", f"A sliding window has at most {MAX_HOPS} hops. The default hop:", "", "| length | hop |", "| --- | --- |",
    ]  # fmt: skip
    edges = [("below 2m", 2 * MINUTE - SECOND), ("below 12m", 12 * MINUTE - SECOND), ("below 1h", HOUR - SECOND),
             ("1h to 12h", 12 * HOUR), ("above, to 12d", 12 * DAY), ("above 12d", 30 * DAY)]  # fmt: skip
    lines += [_row([label, span_text(default_hop(length))]) for label, length in edges]
    return "\n".join(lines) + "\n"


def python() -> str:
    """The public names of `asof`, from their docstrings."""
    import asof
    from asof.definitions.facts import TrainingSet
    from asof.flows.admin.audit import AuditReport
    from asof.flows.admin.compact import CompactResult
    from asof.flows.admin.explain import Explanation
    from asof.flows.admin.forget import ForgetResult
    from asof.flows.admin.profile import ProfileReport
    from asof.flows.batch.materialize import MaterializeResult
    from asof.flows.offline.result import HistoricalResult
    from asof.flows.offline.training_sets.rebuild import RebuildResult
    from asof.flows.stream.dead_letters import DeadLetter, DeadLetterMessage, ReplayResult
    from asof.online_response import OnlineResponse
    from asof.profiles import FeatureDrift, FeatureProfile, ViewProfile
    from asof.profiles.expectations import ExpectationResult
    from asof.testing.clock import HandClock
    from asof.testing.features import FeatureScript

    lines = [
        "# Python", "",
        "All names are imported from `asof`, types from [`asof.types`](types.md), errors from [`asof.errors`](errors.md). "
        "Times may be given as aware or naive datetimes (UTC) or as ISO 8601 text, durations as `timedelta` or as text "
        "like `90s`, `1h30m`, `7d`.", "",
    ]  # fmt: skip
    for heading, names in GROUPS.items():
        lines += [f"## {heading}", ""]
        for name in names:
            lines += _documented(
                name, getattr(asof, name), methods=name in ("FeatureStore", "FeatureView", "Expectation")
            )
        if heading == "The store":
            lines += ["## What reads return", ""]
            for each in (
                HistoricalResult, OnlineResponse, Explanation, AuditReport, MaterializeResult, DeadLetter,
                DeadLetterMessage, ReplayResult, ForgetResult, CompactResult, TrainingSet, RebuildResult,
                ProfileReport, ViewProfile, FeatureProfile, FeatureDrift, ExpectationResult,
            ):  # fmt: skip
                lines += _documented(each.__name__, each, methods=True, signature=False)
    lines += ["## Testing features", "", "See [test your features](../how-to/test-features.md).", ""]
    for each in (FeatureScript, HandClock):
        lines += _documented(each.__name__, each, methods=True)
    lines += ["## Conformance suites", "", *_suites()]
    return "\n".join(lines) + "\n"


def _suites() -> list[str]:
    import pkgutil
    from importlib import import_module

    import asof.testing

    lines = ["`asof.testing` ships what a product of each family must pass: see "
             "[write a store or engine](../how-to/new-product.md).", ""]  # fmt: skip
    for module in sorted(each.name for each in pkgutil.iter_modules(asof.testing.__path__)):
        found = import_module(f"asof.testing.{module}")
        for name, each in vars(found).items():
            if inspect.isclass(each) and each.__module__ == found.__name__ and name.endswith("Suite"):
                lines += [f"### `asof.testing.{module}.{name}`", "", *_docstring(each.__doc__)]
    return lines


# ---- Docstrings ----


def _documented(name: str, thing: Any, *, methods: bool = False, signature: bool = True) -> list[str]:
    """A heading, the signature, the docstring, and perhaps the public methods."""
    if inspect.isclass(thing) and thing.__name__ != name:
        return [f"### {name}", "", f"Another name for `{thing.__name__}`.", ""]
    lines = [f"### {name}", ""]
    if signature:
        lines += ["```python", _signature(name, thing), "```", ""]
    lines += _docstring(_own_doc(thing))
    if methods:
        for method, member in _public_members(thing):
            what = member.fget if isinstance(member, property) else member
            if what.__name__ != method:
                lines += [f"#### {name}.{method}", "", f"The same as `{what.__name__}`.", ""]
                continue
            lines += [f"#### {name}.{method}", ""]
            if not isinstance(member, property):
                lines += ["```python", _signature(method, what), "```", ""]
            lines += _docstring(what.__doc__)
    return lines


def _public_members(thing: type) -> Iterator[tuple[str, Any]]:
    # `FeatureStore` has some of its verbs from these, which users do not meet.
    inherited = [
        each for each in thing.__mro__[1:] if each.__name__ in ("StoreBackups", "StoreReports", "AppliedObjects")
    ]
    for owner in (thing, *inherited):
        for name, member in vars(owner).items():
            if not name.startswith("_") and (inspect.isfunction(member) or isinstance(member, property)):
                yield name, member


def _own_doc(thing: Any) -> str | None:
    return vars(thing).get("__doc__") if inspect.isclass(thing) else thing.__doc__


def _signature(name: str, thing: Callable[..., Any]) -> str:
    signature = inspect.signature(thing)
    given = [each for each in signature.parameters.values() if each.name != "self"]
    texts, starred = [], False
    for each in given:
        text = each.name
        if each.kind is inspect.Parameter.VAR_KEYWORD:
            # Feast's parameters without a meaning here: the docstring's place, not the signature's.
            continue
        if each.kind is inspect.Parameter.KEYWORD_ONLY and not starred:
            texts.append("*")
            starred = True
        if each.kind is inspect.Parameter.VAR_POSITIONAL:
            text, starred = f"*{each.name}", True
        if each.default is not inspect.Parameter.empty:
            shown = each.default.__name__ if inspect.isfunction(each.default) else repr(each.default)
            if isinstance(each.default, str):
                shown = json.dumps(each.default)
            text += f"={shown}"
        texts.append(text)
    answer = "" if inspect.isclass(thing) or signature.return_annotation in (inspect.Signature.empty, "None") else (
        f" -> {str(signature.return_annotation)}"
    )  # fmt: skip
    joined = f"{name}({', '.join(texts)}){answer}"
    if len(joined) <= 110:
        return joined
    return f"{name}(\n" + "".join(f"    {text},\n" for text in texts) + f"){answer}"


def _docstring(doc: str | None) -> list[str]:
    """A docstring as Markdown: paragraphs, and its sections (Args, Returns, …) as lists."""
    lines: list[str] = []
    section = ""
    for block in re.split(r"\n(?=(?:Args|Attributes|Returns|Raises|Yields):\n)|\n\n", inspect.cleandoc(doc or "")):
        heading = re.match(r"(Args|Attributes|Returns|Raises|Yields):\n(.*)", block, re.DOTALL)
        if heading:
            section, body = heading.group(1), inspect.cleandoc(heading.group(2))
            title = {
                "Args": "Parameters",
                "Raises": "Raises",
            }.get(section, section)
            if section in ("Returns", "Yields"):
                lines += [f"{title}: {' '.join(body.split())}", ""]
                continue
            lines += [f"{title}:", ""]
            lines += [f"- {_item(item)}" for item in re.split(r"\n(?=\S)", body)]
            lines.append("")
        elif block.strip():
            lines += [block if block.startswith("- ") else " ".join(block.split()), ""]
    return lines


def _item(item: str) -> str:
    name, colon, text = " ".join(item.split()).partition(": ")
    return f"`{name}`: {text}" if colon else name


def _tree(root: type) -> Iterator[tuple[int, type]]:
    def below(each: type, depth: int) -> Iterator[tuple[int, type]]:
        yield depth, each
        for child in each.__subclasses__():
            # Errors outside asof.errors are the own matter of their module.
            if child.__module__ == root.__module__:
                yield from below(child, depth + 1)

    return below(root, 0)


def _row(cells: list[str]) -> str:
    return "| " + " | ".join(" ".join(str(cell).split()).replace("|", "\\|") for cell in cells) + " |"


def main() -> int:
    """Write the pages that differ, and say which."""
    OUTPUT.mkdir(parents=True, exist_ok=True)
    for name, text in pages().items():
        path = OUTPUT / name
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")
            print(f"wrote {path.relative_to(ROOT)}")
    return 0


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT / "src"))
    sys.exit(main())
