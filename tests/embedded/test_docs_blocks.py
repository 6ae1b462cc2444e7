"""Every Python, shell, console and YAML block of the docs is run as a reader would, or listed with the reason why not.

A page's blocks are run in order, in one folder: the repository that the demo leaves, unless `STARTS` says another.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import chdir
from dataclasses import dataclass, field
from inspect import signature
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from asof.store import open_store_of

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(DOCS.rglob("*.md"))]
TEMPLATE = ROOT / "src" / "asof" / "demo" / "template"
LANGUAGES = ("python", "sh", "console", "yaml", "sql", "toml")

_FENCE = re.compile(r"^```([^\n]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)

NOT_RUN = {
    ("docs/how-to/client.md", "python"): "needs a server with a key; tests/embedded/test_client.py makes these calls",
    ("docs/how-to/real-stack.md", "python"): "on servers: tests/integration/test_demo_services.py runs it",
    ("docs/how-to/real-stack.md", "console"): "on servers: tests/integration/test_demo_services.py runs it",
    ("docs/how-to/real-stack.md", "sh"): "on servers: tests/integration/test_demo_services.py runs the demo there",
    ("docs/how-to/production.md", "sql"): "on a server: tests/integration/test_least_rights.py grants these rights",
    ("docs/reference/python.md", "python"): "signatures, which scripts/generate_docs.py writes",
}
"""Page and language → why its blocks are not run here. It only gets shorter: write pages whose blocks run."""

MOST_NOT_RUN = 6

LINES_NOT_RUN = {
    "pip": "installs from a registry",
    "make": "makes an environment, or runs the tests themselves",
    "docker": "needs Docker",
    "sudo": "changes the machine",
}
"""First word of a shell line → why it is skipped; the lines around it are run."""

EXCERPTS = {
    "docs/tutorial.md": TEMPLATE / "features.py",
}
"""Page → the file that its Python blocks without imports show pieces of."""


@dataclass(frozen=True)
class Block:
    """One fenced block of a page."""

    page: Path
    language: str
    text: str
    line: int

    @property
    def name(self) -> str:
        return name_of(self.page)

    def __str__(self) -> str:
        return f"{self.name}:{self.line}"


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


def blocks(page: Path) -> list[Block]:
    text = page.read_text(encoding="utf-8")
    return [
        Block(page, found.group(1), found.group(2), text[: found.start(2)].count("\n"))
        for found in _FENCE.finditer(text)
    ]


def to_run(page: Path) -> list[Block]:
    return [each for each in blocks(page) if each.language in LANGUAGES and (each.name, each.language) not in NOT_RUN]


# ---- What a page starts with, where the demo's repository is not it ----


def _nothing(home: Path) -> Path:
    shutil.rmtree(home)
    home.mkdir()
    return home


def _definitions_of(page: str, rows: Callable[[Path], None]) -> Callable[[Path], Path]:
    """A repository whose definitions are the page's first Python block."""

    def start(home: Path) -> Path:
        _nothing(home)
        (home / "feature_store.yaml").write_text("project: docs\n")
        block = next(each for each in blocks(ROOT / page) if each.language == "python")
        (home / "features.py").write_text(block.text)
        rows(home)
        return home

    return start


def _write(path: Path, **columns: list[Any]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.table(columns), path)


def _carts(home: Path) -> None:
    from datetime import UTC, datetime

    _write(
        home / "carts.parquet",
        user_id=[7, 7], at=[datetime(2026, 1, 5, 10, tzinfo=UTC), datetime(2026, 1, 5, 11, tzinfo=UTC)],
        price=[2.5, 4.0], quantity=[2, 1], item=["tea", "jam"], category=["food", "book"],
    )  # fmt: skip


def _traffic(home: Path) -> None:
    _write(
        home / "traffic_until_2025.parquet",
        user_id=[7, 8],
        page=["home", "cart"],
        timestamp=[1_700_000_000_000, 1_710_000_000_000],
    )


def _payments(home: Path) -> Path:
    from datetime import UTC, datetime

    repo = home / "repo"
    _write(
        repo / "payments.parquet",
        user_id=[1, 2], amount=[1.5, 2.5], paid_at=[datetime(2020, 10, 18, 5, minute, tzinfo=UTC) for minute in (10, 20)],
    )  # fmt: skip
    return repo


def _broken_messages(home: Path) -> Path:
    """The messages that the page on dead letters shows the fate of."""
    from asof import FeatureStore

    with FeatureStore(home / "repo") as store:
        messages = [
            b"{broken}", b'{"user_id": 1, "page": 5, "timestamp": 1603000000000}',
            b'{"user_id": 1, "page": "x", "timestamp": 1603000000000}',
            b'{"user_id": null, "timestamp": 1603000000}',
            b'{"user_id": 1, "page": "x", "timestamp": 1603086399000}',
        ]  # fmt: skip
        open_store_of(store).stores.log.send("traffic", messages, keys=[b"1"] * len(messages), durable=True)
        store.stream_run(until_caught_up=True)
    return home / "repo"


STARTS: dict[str, Callable[[Path], Path]] = {
    "docs/for-data-scientists.md": _nothing,
    "docs/how-to/add-a-source.md": _nothing,
    "docs/how-to/aggregations.md": _definitions_of("docs/how-to/aggregations.md", _carts),
    "docs/how-to/backfill.md": _definitions_of("docs/how-to/backfill.md", _traffic),
    "docs/how-to/dead-letters.md": _broken_messages,
    "docs/how-to/push.md": _payments,
}
"""Page → what makes its folder out of a copy of `demo-output/`, and returns where its reader stands."""

EDITS = {
    ("docs/tutorial.md", 'Aggregation(name="orders_7d"'): [
        ('description="Pages of a week"),\n', 'description="Pages of a week"),\n        BLOCK,\n'),
        ("where=\"page = 'order_page'\"", "where=\"pages = 'order_page'\""),
    ],
}
"""Page and how a block begins → what its reader changes in features.py: now, and before the second `asof plan` on."""

WIDTHS = {"docs/how-to/troubleshoot.md": "250"}
"""Page → the terminal's width for what it shows, where 100 columns are too narrow."""

WRITTEN = {"docs/for-data-scientists.md": "features.py"}
"""Page → the file that its reader writes the blocks with definitions into."""


# ---- Running ----


@dataclass
class Reader:
    """Follows one page: runs its blocks in order, where the ones before left off."""

    page: Path
    here: Path
    binaries: Path
    namespace: dict[str, Any] = field(default_factory=lambda: {"__name__": "docs"})
    servers: list[subprocess.Popen[bytes]] = field(default_factory=list)
    port: int = 0
    edits: list[tuple[str, str]] = field(default_factory=list)

    def environment(self) -> dict[str, str]:
        return {
            "PATH": f"{self.binaries}:/usr/local/bin:/usr/bin:/bin", "HOME": str(self.here), "COLUMNS": WIDTHS.get(name_of(self.page), "100"),
            "PYTHONPATH": str(ROOT / "src"), "ASOF_DATA": str(self.here / "elsewhere"), "USER": "reader",
        }  # fmt: skip

    def run(self, block: Block) -> None:
        getattr(self, block.language)(block)

    # ---- Python ----

    def python(self, block: Block) -> None:
        for (page, begin), edits in EDITS.items():
            if page == block.name and block.text.startswith(begin):
                (before, after), *self.edits = edits
                self.edit(before, after.replace("BLOCK", block.text.strip()))
                return
        if block.name in EXCERPTS and "import" not in block.text:
            assert_excerpt(block, EXCERPTS[block.name])
            return
        if block.name in WRITTEN and "Source(" in block.text:
            (self.here / WRITTEN[block.name]).write_text(block.text)
        with chdir(self.here):
            # Padded, so that a traceback names the page's own line.
            exec(compile("\n" * block.line + block.text, str(block.page), "exec"), self.namespace)

    def edit(self, before: str, after: str) -> None:
        path = self.here / "features.py"
        text = path.read_text(encoding="utf-8")
        assert before in text
        path.write_text(text.replace(before, after), encoding="utf-8")

    # ---- Shell ----

    def sh(self, block: Block) -> None:
        lines = []
        for line in block.text.replace("\\\n", " ").splitlines():
            word = next(iter(line.split()), "#")
            if word in LINES_NOT_RUN or word.startswith("#"):
                continue
            if re.match(r"asof (serve|ui)\b", line):
                self.serve(line)
                continue
            if "asof stream run" in line and "--until-caught-up" not in line:
                command, hash_, comment = line.partition(" #")
                line = f"{command.rstrip()} --until-caught-up{hash_}{comment}"
            if line.startswith("asof init") and "cd " not in block.text:
                line = f"(cd .. && {line.partition(' #')[0]})"  # not inside of the repository that the page is about
            if line.strip() == "cd demo-output/repo":
                continue  # the reader is there already
            lines.append(line.replace("localhost:6566", f"localhost:{self.port}"))
        script = "set -e\n" + "\n".join(lines) + f"\npwd > {self.binaries}/pwd\n"
        done = subprocess.run(
            ["bash", "-c", script],
            cwd=self.here,
            env=self.environment(),
            input="y\n" * 20,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, f"{block}: code {done.returncode}\n{done.stdout}\n{done.stderr}"
        self.here = Path((self.binaries / "pwd").read_text().strip())

    def serve(self, line: str) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        words = shlex.split(line.replace("6566", str(self.port)), comments=True)
        if words[1] == "ui":
            words += ["--port", str(self.port), "--no-browser"]
        self.servers.append(
            subprocess.Popen(
                [sys.executable, "-m", *words],
                cwd=self.here,
                env=self.environment(),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )  # fmt: skip
        )
        deadline = time.monotonic() + 60
        while True:
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{self.port}/ready", timeout=5).close()
                return
            except OSError:
                assert time.monotonic() < deadline and self.servers[-1].poll() is None, (
                    f"{line}: the server did not start"
                )
                time.sleep(0.1)

    def close(self) -> None:
        for server in self.servers:
            server.terminate()
            server.wait(60)
        if "store" in self.namespace:
            self.namespace["store"].close()

    # ---- Console: commands with what they show ----

    def console(self, block: Block) -> None:
        wrong = []
        for command in block.text.replace("\\\n", " ").split("$ asof ")[1:]:
            words, _, shown = command.partition("\n")
            if words == "plan" and self.edits and self.planned:
                self.edit(*self.edits.pop(0))
            done = subprocess.run(
                [sys.executable, "-m", "asof", *shlex.split(words, comments=True)],
                cwd=self.here, env=self.environment(), input="y\n" * 20, capture_output=True, text=True,
            )  # fmt: skip
            self.planned = words == "plan" or (self.planned and bool(self.edits))
            found = masked((done.stdout + done.stderr).replace(f"{self.here}/", ""))
            wrong += [
                f"{block}: asof {words}: {line}"
                for line in shown.splitlines()
                if line != "…" and masked(line) not in found
            ]
        assert not wrong, "\n".join([*wrong, done.stdout, done.stderr])

    planned: bool = False

    # ---- Configuration, expressions ----

    def yaml(self, block: Block) -> None:
        from asof.config import load_config

        title = re.match(r"# (feature_store\.\w+\.yaml)", block.text)
        if title:
            (self.here / title.group(1)).write_text(block.text)
        folder = self.binaries / f"yaml-{block.line}"
        folder.mkdir()
        text = block.text if re.search(r"^project:", block.text, re.MULTILINE) else f"project: docs\n{block.text}"
        (folder / "feature_store.yaml").write_text(text)
        environ = {name: value_for(name) for name in re.findall(r"\$\{(\w+)\}", block.text)}
        assert load_config(folder, environ=environ).project

    def sql(self, block: Block) -> None:
        from asof.expressions import parse

        for line in block.text.splitlines():
            parse(line)

    def toml(self, block: Block) -> None:
        import tomllib

        assert tomllib.loads(block.text)


def value_for(variable: str) -> str:
    """A value that an environment variable of the docs could have."""
    if variable.endswith(("_DB", "POSTGRES")):
        return "postgresql://user:secret@db:5432/shop"
    return (
        "redis://user:secret@redis:6379/0"
        if variable.endswith("REDIS")
        else "host:9092"
        if "KAFKA" in variable
        else "x"
    )


def assert_excerpt(block: Block, path: Path) -> None:
    """The block's lines stand in the file, in their order; a line with `…` stands for some that are left out."""
    lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines()]
    place = 0
    for line in block.text.splitlines():
        if line.strip() and "…" not in line:
            assert line.strip() in lines[place:], f"{block}: {path.name} has no such line (any more): {line.strip()}"
            place = lines.index(line.strip(), place) + 1


def masked(text: str) -> str:
    """Without what differs from machine to machine: seconds taken, hashes of definitions and contents, line breaks."""
    # Seconds come with three digits or, where the last ones are zeros, fewer; those of a run stand before its end.
    seconds = r"\b\d+\.\d{3}\b|\b\d+\.\d+(?=\s+\d{4}-\d\d-\d\dT)"
    text = re.sub(rf"\b[0-9a-f]{{64}}\b|\b[0-9a-f]{{12}}\b|{seconds}", "#", text)
    text = re.sub(r"SQLite [\d.]+|\d+\.\d MiB|\bby \w+@\S+", "#", text)
    return " ".join(re.sub(r"-{3,}", "---", text).split())


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from asof.demo.story import run

    folder = tmp_path_factory.mktemp("demo") / "demo-output"
    run(folder, say=lambda text: None)
    return folder


@pytest.fixture
def my_package(monkeypatch: pytest.MonkeyPatch) -> None:
    """The package that a reader of the page on products would write."""
    from asof.online.sqlite import SqliteOnlineStore

    for name in ("my_package", "my_package.fabric"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    monkeypatch.setattr(sys.modules["my_package.fabric"], "FabricOnline", SqliteOnlineStore, raising=False)


@pytest.mark.slow
@pytest.mark.parametrize("page", [page for page in PAGES if to_run(page)], ids=name_of)
@pytest.mark.usefixtures("my_package")
def test_the_blocks_of_a_page_run_and_show_what_it_says(page: Path, demo: Path, tmp_path: Path) -> None:
    home, binaries = tmp_path / "demo-output", tmp_path / "bin"
    shutil.copytree(demo, home)
    binaries.mkdir()
    for name, command in (("asof", f"{sys.executable} -m asof"), ("curl", f"{shutil.which('curl')} --fail-with-body")):
        (binaries / name).write_text(f'#!/bin/sh\nexec {command} "$@"\n')
        os.chmod(binaries / name, 0o755)
    start = STARTS.get(name_of(page))
    reader = Reader(page, start(home) if start else home / "repo", binaries)
    try:
        for block in to_run(page):
            reader.run(block)
        assert reader.edits == []
    finally:
        reader.close()
    for name, value in list(reader.namespace.items()):
        if name.startswith("test_"):
            own = tmp_path / name
            own.mkdir()
            value(**{"tmp_path": own} if "tmp_path" in signature(value).parameters else {})


def test_what_is_not_run_is_still_there_and_gets_less() -> None:
    there = {(name_of(page), block.language) for page in PAGES for block in blocks(page)}
    assert [each for each in NOT_RUN if each not in there] == [], "take it off the list"
    assert len(NOT_RUN) <= MOST_NOT_RUN, "the list only gets shorter"


def test_every_block_says_what_it_is() -> None:
    known = {*LANGUAGES, "python example", "ini", "json", "diff", "dockerfile", ""}
    assert [str(block) for page in PAGES for block in blocks(page) if block.language not in known] == []
    # Text without a language is output, a listing or a drawing: no command of a reader stands there.
    commands = re.compile(r"^(?:\$ |asof |pip |import |from \w+ import )", re.MULTILINE)
    bare = [block for page in PAGES for block in blocks(page) if not block.language]
    assert [str(block) for block in bare if commands.search(block.text) and "reference" not in block.name] == []


# ---- What is named is there ----

_SHOWN = re.compile(
    r"""(?:"|--features[ ]|asof[ ]explain[ ]|,)(?P<view>[a-z]\w*):(?P<feature>[a-z]\w*)(?=["\s,])"""
    r"""|--service[ ](?P<service>\w+)|"service":[ ]"(?P<service2>\w+)"|feature_log_services:[ ]\[(?P<service3>\w+)\]"""
    r"""|asof[ ](?:audit|sample|materialize|rebuild|show[ ](?:view|service))[ ](?P<name>[a-z]\w*)"""
    r"""|get_(?:online|historical)_features\((?:\w+,[ ])?"(?P<service4>\w+)"(?!,[ ]\[")"""
)


def _shown(text: str) -> Iterator[tuple[str, str]]:
    for found in _SHOWN.finditer(text):
        groups = found.groupdict()
        if groups["view"]:
            yield groups["view"], groups["feature"]
        else:
            yield next(value for name, value in groups.items() if value and name not in ("view", "feature")), ""


def _defined() -> dict[str, set[str]]:
    """Views and services of the demo and of `asof init` → their features."""
    import runpy

    from asof.definitions import FeatureService, FeatureView, OnDemandFeatureView

    found: dict[str, set[str]] = {}
    for template in (TEMPLATE, ROOT / "src" / "asof" / "cli" / "template"):
        for each in runpy.run_path(str(template / "features.py")).values():
            if isinstance(each, FeatureView | OnDemandFeatureView):
                found[each.name] = set(each.feature_names)
            elif isinstance(each, FeatureService):
                found[each.name] = set()
    return found


def test_views_features_and_services_that_are_shown_are_the_demos_or_the_pages_own() -> None:
    known, unknown, seen = _defined(), [], 0
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        own = set(re.findall(r'(?:name=|View\(|Service\(|Field\()"(\w+)"', text)) | set(
            re.findall(r"def (\w+)\(", text)
        )
        for block in blocks(page):
            if block.language in ("sh", "console", "python", "yaml") and "reference" not in block.name:
                for view, feature in _shown(block.text):
                    seen += 1
                    if not (
                        (view in known and (not feature or feature in known[view] | own))
                        or (view in own and (not feature or feature in own))
                    ):
                        unknown.append(f"{block}: {view}{':' if feature else ''}{feature}")
    assert unknown == []
    assert seen > 40
    assert list(_shown('x "profile:age" --service model')) == [("profile", "age"), ("model", "")]
