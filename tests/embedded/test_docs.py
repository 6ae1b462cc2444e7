"""The documentation holds: generated pages are current, links resolve, worked examples hold, and nothing public is missing."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest

from tests.plain_english import findings

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = sorted([*DOCS.rglob("*.md"), *(ROOT / name for name in ("README.md", "CHANGELOG.md", "CONTRIBUTING.md"))])

# An image's place is checked as a link's is.
_LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
_FENCE = re.compile(r"^```([^\n]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_CODE = re.compile(r"`[^`\n]*`")


def _name(page: Path) -> str:
    return str(page.relative_to(ROOT))


@lru_cache
def _text(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def _prose(page: Path) -> str:
    """The page without its blocks of code."""
    return _FENCE.sub("", _text(page))


@lru_cache
def _anchors(page: Path) -> set[str]:
    """The anchors that GitHub makes of a page's headings."""
    found: set[str] = set()
    for heading in re.findall(r"^#+ (.*)$", _prose(page), re.MULTILINE):
        slug = re.sub(r"[^\w\- ]", "", heading.replace("`", "").lower().strip()).replace(" ", "-")
        found.add(slug if slug not in found else f"{slug}-1")
    return found


# ---- Generated pages ----


def test_the_generated_pages_are_those_that_make_docs_writes_now() -> None:
    from scripts.generate_docs import OUTPUT, pages

    made = pages()
    stale = [name for name, text in made.items() if not (OUTPUT / name).exists() or _text(OUTPUT / name) != text]
    assert not stale, f"docs/reference/ is not what the code says: {', '.join(stale)}; run `make docs`"
    assert {path.name for path in OUTPUT.glob("*.md")} == set(made), "a page of docs/reference/ has no generator"


def test_every_public_name_type_function_and_command_is_documented() -> None:
    import asof
    import asof.types
    from asof.cli.reference import commands
    from asof.definitions.windows import FUNCTIONS
    from scripts.generate_docs import AGGREGATES, GROUPS, TYPES

    assert sorted(name for names in GROUPS.values() for name in names) == sorted(asof.__all__)
    assert set(TYPES) == set(asof.types.__all__) - {"DType"}
    assert set(AGGREGATES) == set(FUNCTIONS)
    page = _text(DOCS / "reference" / "cli.md")
    assert [words for words, _ in commands() if words != "asof" and f"\n## {words}\n" not in page] == []


def test_every_method_of_the_store_is_documented() -> None:
    from asof import FeatureStore

    page = _text(DOCS / "reference" / "python.md")
    methods = [name for name in vars(FeatureStore) if not name.startswith("_")]
    assert len(methods) > 30
    assert [name for name in methods if f"#### FeatureStore.{name}\n" not in page] == []


def test_every_option_and_every_error_is_documented() -> None:
    import inspect

    import asof.errors
    from asof.config.reference import REFERENCE

    config, errors = _text(DOCS / "reference" / "config.md"), _text(DOCS / "reference" / "errors.md")
    assert [option.path for option in REFERENCE if f"`{option.path}`" not in config] == []
    classes = [
        each for each in vars(asof.errors).values() if inspect.isclass(each) and issubclass(each, asof.errors.AsofError)
    ]
    assert [each.__name__ for each in classes if f"`{each.__name__}`" not in errors] == []
    assert [each.__name__ for each in classes if not each.__doc__] == []


# ---- Links and commands ----


@pytest.mark.parametrize("page", PAGES, ids=_name)
def test_every_internal_link_resolves(page: Path) -> None:
    broken = []
    for target in _LINK.findall(_CODE.sub("", _prose(page))):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        goal = (page.parent / path).resolve() if path else page
        if not goal.exists() or (anchor and anchor not in _anchors(goal)):
            broken.append(target)
    assert broken == []


def test_every_page_is_reached_from_the_index() -> None:
    reached, ahead = set(), [DOCS / "index.md"]
    while ahead:
        page = ahead.pop()
        if page in reached:
            continue
        reached.add(page)
        for target in _LINK.findall(_CODE.sub("", _prose(page))):
            goal = (page.parent / target.partition("#")[0]).resolve()
            if goal.suffix == ".md" and goal.exists() and DOCS in goal.parents:
                ahead.append(goal)
    assert sorted(_name(page) for page in set(DOCS.rglob("*.md")) - reached) == []


def _command_lines() -> Iterator[tuple[str, str]]:
    """Every `asof …` in a block of shell or console lines, with its page; options of a command may be on more lines."""
    for page in PAGES:
        for language, block in _FENCE.findall(_text(page)):
            if language.split()[:1] in (["sh"], ["console"]):
                joined = block.replace("\\\n", " ")
                for line in joined.splitlines():
                    found = re.match(r"(?:\$ )?(?:[A-Z_]+=\S+ )*asof\b(.*)", line)
                    if found:
                        yield _name(page), found.group(1)


def _misuse(line: str, known: Mapping[str, Any]) -> str:
    """What is wrong with the words behind `asof`; empty where nothing is."""
    import click

    words, parts = "asof", iter(re.sub(r"'[^']*'|\"[^\"]*\"", "X", line.split(" #")[0]).split())
    for part in parts:
        if part in ("|", "&&", ">", ";"):
            break
        command = known[words].command
        if part.startswith("-"):
            params = [*command.get_params(known[words]), *known["asof"].command.get_params(known["asof"])]
            found = [param for param in params if part.split("=")[0] in param.opts]
            if not found:
                return f"no option {part}"
            if "=" not in part and not getattr(found[0], "is_flag", False):
                next(parts, None)
        elif isinstance(command, click.Group):
            words += f" {part}"
            if words not in known:
                return f"no command {words!r}"
    return ""


def test_every_command_of_the_docs_exists_with_its_options() -> None:
    from asof.cli.reference import commands

    known, lines = dict(commands()), list(_command_lines())
    wrong = [f"{page}: asof{line}: {what}" for page, line in lines if (what := _misuse(line, known))]
    assert wrong == []
    assert len(lines) > 30
    assert _misuse(" get online --kye x=1", known) and _misuse(" get oline", known) and not _misuse(" plan", known)


# ---- Python blocks: tests/embedded/test_docs_blocks.py runs them ----


@pytest.mark.parametrize("page", [page for page in PAGES if "```python" in _text(page)], ids=_name)
def test_every_python_block_is_python(page: Path) -> None:
    for language, block in _FENCE.findall(_text(page)):
        if language.split()[:1] == ["python"] and "reference" not in page.parts:
            compile(block, str(page), "exec")


# ---- Worked examples: a block `python example` makes `view`; the next two tables are events and answers ----

SEMANTICS = DOCS / "concepts" / "semantics.md"
DAY = "2026-01-05 "


class Example:
    """One worked example of the page on semantics."""

    def __init__(self, title: str, code: str, events: list[dict[str, str]], answers: list[dict[str, str]]) -> None:
        self.title, self.code, self.events, self.answers = title, code, events, answers

    def __repr__(self) -> str:
        return self.title


def _tables(text: str) -> Iterator[list[dict[str, str]]]:
    for table in re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE):
        rows = [[cell.strip() for cell in line.strip().strip("|").split("|")] for line in table.splitlines()]
        yield [dict(zip(rows[0], row, strict=True)) for row in rows[2:]]


def _examples() -> list[Example]:
    found = []
    for section in re.split(r"^## ", _text(SEMANTICS), flags=re.MULTILINE)[1:]:
        title = section.split("\n", 1)[0]
        for part in section.split("```python example\n")[1:]:
            code, rest = part.split("```\n", 1)
            tables = list(_tables(rest))
            assert len(tables) >= 2, f"{title}: expected a table of events and one of answers"
            found.append(Example(title, code, tables[0], tables[1]))
    return found


def _cell(text: str) -> object:
    """A cell's value: a time of the day, a number, several words, a word, or null."""
    if text == "–":
        return None
    if re.fullmatch(r"\d\d:\d\d(:\d\d(\.\d+)?)?", text):
        from asof.timing import micros

        return micros(DAY + text)
    if ", " in text:
        return text.split(", ")
    for number in (int, float):
        try:
            return number(text)
        except ValueError:
            pass
    return text


@pytest.mark.parametrize("example", _examples(), ids=repr)
def test_the_answers_of_an_example_are_those_of_the_store_and_of_the_oracle(
    example: Example, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    view = _view_of(example)
    events = [{name: _cell(text) for name, text in row.items()} for row in example.events]
    asked = [{name: _cell(text) for name, text in row.items()} for row in example.answers]
    expected = [{name: row[name] for name in row if name not in ("t", "known_at")} for row in asked]

    assert _by_oracle(view, events, asked) == expected
    assert _by_store(view, events, asked, tmp_path) == expected


def _view_of(example: Example) -> Any:
    namespace: dict[str, Any] = {}
    shared = next(block for head, block in _FENCE.findall(_text(SEMANTICS)) if head == "python")
    exec(shared, namespace)
    exec(example.code, namespace)
    return namespace["view"]


def _by_oracle(view: Any, events: list[dict[str, Any]], asked: list[dict[str, Any]]) -> list[dict[str, Any]]:
    from asof.expressions import parse
    from asof.testing.evaluator import evaluate
    from tests.oracle import features_as_of

    rows = [
        {**event, "user_id": 7, "event_time": event["at"], "created": event.get("written"), "arrival": place}
        for place, event in enumerate(events)
    ]
    return [
        features_as_of(
            rows, view, [7], row["t"], known_at=_cut(row), evaluate=lambda text, event: evaluate(parse(text), event)
        )
        for row in asked
    ]


def _by_store(
    view: Any, events: list[dict[str, Any]], asked: list[dict[str, Any]], folder: Path
) -> list[dict[str, Any]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    from asof import FeatureStore
    from asof.timing import moment

    times = pa.timestamp("us", "UTC")
    columns = {
        name: pa.array([event[name] for event in events], times if name in ("at", "written") else None)
        for name in events[0]
    }
    pq.write_table(pa.table({"user_id": [7] * len(events), **columns}), folder / view.source.path)
    (folder / "feature_store.yaml").write_text("project: docs\n")
    answers: dict[int, dict[str, Any]] = {}
    with FeatureStore(folder) as store:
        store.apply([view])
        for cut in {_cut(row) for row in asked}:
            positions = [place for place, row in enumerate(asked) if _cut(row) == cut]
            moments = pa.array([asked[place]["t"] for place in positions], times)
            frame = pa.table({"user_id": [7] * len(positions), "event_timestamp": moments})
            known_at = moment(cut) if isinstance(cut, int) and not isinstance(cut, bool) else cut
            found = store.get_historical_features(frame, view.name, known_at=known_at).to_arrow()
            answers |= zip(positions, found.select(list(view.feature_names)).to_pylist(), strict=True)
    return [answers[place] for place in range(len(asked))]


def _cut(row: dict[str, Any]) -> Any:
    """A cell of the column `known_at`: none, each row's own time, or one moment."""
    return True if row.get("known_at") == "row" else row.get("known_at")


# ---- Pages about the code: the tree, the protocols, the glossary ----


def test_every_path_that_a_page_names_is_there() -> None:
    """Paths of this repository in code spans: `src/asof/…`, `tests/…`, `scripts/…`, `docs/…`, `benchmarks/…`."""
    path = re.compile(r"`((?:src|tests|scripts|docs|benchmarks|deploy)/[\w./-]+)`")
    pages = [*(page for page in PAGES if page.name != "CHANGELOG.md"), ROOT / "benchmarks" / "FIGURES.md"]
    named = [(page, name) for page in pages for name in path.findall(_text(page))]
    assert [f"{_name(page)}: {name}" for page, name in named if not (ROOT / name).exists()] == []
    assert len(named) > 5


def test_the_verbs_of_the_protocols_are_those_of_the_code() -> None:
    page = _text(DOCS / "concepts" / "architecture.md")
    table = next(table for table in _tables(page) if "verbs" in table[0])
    assert len(table) == 5
    wrong = []
    for row in table:
        code = _text(ROOT / "src" / "asof" / row["protocol"].strip("`") / "protocol.py")
        wrong += [
            f"{row['protocol']}: {verb}"
            for verb in re.findall(r"`(\w+)`", row["verbs"])
            if not re.search(rf"^    (?:async )?def {verb}\(", code, re.MULTILINE)
        ]
    assert wrong == []


def test_the_ways_through_the_architecture_are_modules() -> None:
    page = _text(DOCS / "concepts" / "architecture.md")
    table = next(table for table in _tables(page) if "goes through" in table[0])
    named = {name for row in table for cell in row.values() for name in re.findall(r"`([a-z]+(?:/[a-z]+)?)`", cell)}
    named -= {"plan", "apply", "materialize"}
    package = ROOT / "src" / "asof"
    assert [name for name in named if not ((package / name).is_dir() or (package / f"{name}.py").exists())] == []
    assert len(named) > 12


TERMS = (
    "tombstone", "dead letter", "spine", "offset", "dialect", "connection pool", "point-in-time join", "generation",
    "snapshot", "facts", "selection", "incarnation", "hop", "tile", "session", "backfill", "materialize", "manifest",
    "progress", "replay", "fast path", "owner", "entity key", "entry point", "conformance suite", "segment", "event id",
)  # fmt: skip
"""Terms of the field, and ours, that the code uses: the glossary defines each."""


def test_the_glossary_defines_the_terms_that_the_code_uses() -> None:
    page = _text(DOCS / "concepts" / "glossary.md")
    defined = " ".join(row["term"] for table in _tables(page) for row in table).lower()
    assert [term for term in TERMS if term not in defined] == []


# ---- Plain English ----


@pytest.mark.parametrize(
    "page", [page for page in PAGES if page.name != "CHANGELOG.md" and "reference" not in page.parts], ids=_name
)
def test_pages_are_in_plain_english(page: Path) -> None:
    assert findings(re.sub(r"\]\([^)]*\)", "]", _prose(page))) == []
