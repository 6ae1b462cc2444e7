"""Loading a feature repository: what is found, what is left out, and how a broken file is named."""

from __future__ import annotations

import json
import sys
import threading
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from asof.errors import AsofError, DefinitionError, DuplicateDefinition, RepositoryError
from asof.repository import collect, python_files
from asof.repository.modules import importable

HEAD = "from asof.definitions import *\nfrom asof.types import Int64, String\n"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path.resolve()


def write(root: Path, path: str, text: str) -> None:
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    (root / path).write_text(text, encoding="utf-8")


def refused(root: Path) -> str:
    with pytest.raises(RepositoryError) as caught:
        collect(root)
    return str(caught.value)


def test_definitions_are_found_with_all_that_they_name_and_where_they_were_written(root: Path) -> None:
    write(
        root, "features.py",
        HEAD + "views = [FeatureView('users', entities=[Entity('user', ['user_id'])],\n"
        "    source=FileSource('users.parquet', timestamp_field='at'))]\n"
        "service = FeatureService('model', [views[0]])\n",
    )  # fmt: skip

    project = collect(root)

    assert [(each.kind, each.name, each.where) for each in project] == [
        ("entity", "user", "features.py:3"),
        ("source", "users", "features.py:4"),
        ("feature view", "users", "features.py:3"),
        ("feature service", "model", "features.py:5"),
    ]


def test_files_import_one_another_and_an_object_that_is_seen_twice_is_one(root: Path) -> None:
    write(root, "entities.py", HEAD + "user = Entity('user')\n")
    write(
        root,
        "shop/views.py",
        HEAD + "from entities import user\nfrom shop.deep.names import NAME\nother = Entity(NAME)\n",
    )
    write(root, "shop/deep/names.py", "NAME = 'order'\n")

    assert list(collect(root).entities) == ["order", "user"]


def test_what_is_no_definition_file_is_left_out(root: Path) -> None:
    kept = ["a.py", "odd-name.py", "lib/b.py", "lib/data/c.py"]
    left = [
        ".hidden/x.py", "__pycache__/x.py", "data/x.py", "env/x.py", "test_x.py", "lib/conftest.py", "old/x.py",
        "lib/scratch.py", "notes.txt", "drafts/deep/x.py", "mine/x.py",
    ]  # fmt: skip
    for path in [*kept, *left]:
        write(root, path, "")
    write(root, "env/pyvenv.cfg", "")
    write(root, ".asofignore", "# not yet\nold/\nscratch.py\n")
    write(root, ".feastignore", "**/deep/*.py\n")

    found = [path.relative_to(root).as_posix() for path in python_files(root, ignore=["mine"])]

    assert found == sorted(kept)
    collect(root)


def test_the_last_pattern_of_an_ignore_file_decides(root: Path) -> None:
    for path in ("a.py", "jobs/b.py", "jobs/c.py", "old/d.py"):
        write(root, path, "")
    # As some editors write it.
    (root / ".asofignore").write_bytes("\ufeff*.py\r\n!a.py\r\n!/jobs/c.py\r\nold\r\n!old/d.py\r\n".encode())

    assert [path.relative_to(root).as_posix() for path in python_files(root)] == ["a.py", "jobs/c.py"]


def test_a_script_that_asks_a_store_is_named_with_the_line_that_leaves_it_out(root: Path) -> None:
    write(root, "jobs/nightly.py", "from asof import FeatureStore\n\nFeatureStore('nowhere').get_feature_view('v')\n")

    with pytest.raises(AsofError) as caught:
        collect(root)

    assert caught.value.where == "jobs/nightly.py:3"
    assert caught.value.hint.endswith("; if it holds no definitions, add jobs/nightly.py to .asofignore")


def test_two_repositories_with_the_same_file_names_load_in_one_process_and_leave_nothing(root: Path) -> None:
    for name in ("one", "two"):
        write(root, f"{name}/names.py", f"NAME = '{name}'\n")
        write(root, f"{name}/features.py", HEAD + "import names\nuser = Entity(names.NAME)\n")
    before = (dict(sys.modules), list(sys.path), list(sys.meta_path))

    assert list(collect(root / "one").entities) == ["one"]
    assert list(collect(root / "two").entities) == ["two"]
    assert "features" not in sys.modules and "names" not in sys.modules
    assert (before[1], before[2]) == (sys.path, sys.meta_path)


def test_a_module_of_the_same_name_that_was_there_before_is_there_again(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine = type(sys)("features")
    monkeypatch.setitem(sys.modules, "features", mine)
    write(root, "features.py", HEAD + "user = Entity('user')\n")

    assert list(collect(root).entities) == ["user"]
    assert sys.modules["features"] is mine


def test_repositories_load_in_several_threads_at_once(root: Path) -> None:
    found: dict[str, list[str]] = {}
    for number in range(6):
        write(root, f"{number}/features.py", HEAD + f"import time\ntime.sleep(0.005)\nuser = Entity('user_{number}')\n")

    def load(name: str) -> None:
        found[name] = list(collect(root / name).entities)

    threads = [threading.Thread(target=load, args=(str(number),)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert found == {str(number): [f"user_{number}"] for number in range(6)}


def test_a_file_edited_at_once_is_read_anew_and_no_bytecode_is_written(root: Path) -> None:
    write(root, "features.py", HEAD + "a = Entity('one')\n")
    collect(root)
    write(root, "features.py", HEAD + "a = Entity('two')\n")

    assert list(collect(root).entities) == ["two"]
    assert not (root / "__pycache__").exists()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "x = 1\ny = x / 0\n",
            "features.py:2: ZeroDivisionError: division by zero\n  next: fix the file"
            ", or if it holds no definitions, add features.py to .asofignore",
        ),
        (
            "def broken(:\n",
            "features.py:1: SyntaxError: invalid syntax\n"
            "  next: fix the file, or if it holds no definitions, add features.py to .asofignore",
        ),
        (
            "import sys\n\nsys.exit(3)\n",
            "features.py:3: the file ends the process (SystemExit: 3)\n"
            "  next: keep what a script does under `if __name__ == '__main__':`"
            ", or if it holds no definitions, add features.py to .asofignore",
        ),
        (
            "import shop_names\n",
            "features.py:1: ModuleNotFoundError: No module named 'shop_names'\n"
            "  next: install the package that has 'shop_names', or write the file shop_names.py"
            ", or if it holds no definitions, add features.py to .asofignore",
        ),
        (
            "from json import nothing\n",
            "features.py:1: ImportError: cannot import name 'nothing' from 'json' ({json})\n"
            "  next: check the name that is imported, or if it holds no definitions, add features.py to .asofignore",
        ),
        (
            "import pytest\npytest.skip('not here', allow_module_level=True)\n",
            "features.py:2: Skipped: not here\n"
            "  next: fix the file, or if it holds no definitions, add features.py to .asofignore",
        ),
        (
            "import json\nx = json.loads('{')\n",
            "features.py:2: JSONDecodeError: Expecting property name enclosed in double quotes: line 1 column 2 "
            "(char 1)\n"
            "  next: fix the file, or if it holds no definitions, add features.py to .asofignore",
        ),
    ],
)
def test_a_broken_file_is_named_by_the_users_own_line(root: Path, text: str, message: str) -> None:
    write(root, "features.py", text)

    assert refused(root) == message.replace("{json}", str(json.__file__))


def test_an_error_keeps_its_cause_and_is_placed_in_the_file_that_raised_it(root: Path) -> None:
    write(root, "features.py", "import tools\n")
    write(root, "tools.py", "\n\nraise ValueError('too bad')\n")

    with pytest.raises(RepositoryError) as caught:
        collect(root)

    assert caught.value.where == "tools.py:3"
    assert isinstance(caught.value.__cause__, ValueError)


def test_a_definition_that_is_not_well_formed_keeps_its_own_place(root: Path) -> None:
    write(root, "features.py", HEAD + "\nuser = Entity('not a name')\n")

    with pytest.raises(DefinitionError) as caught:
        collect(root)

    assert caught.value.where == "features.py:4"


def test_two_definitions_of_one_name_name_both_places(root: Path) -> None:
    write(root, "a.py", HEAD + "user = Entity('user', ['user_id'])\n")
    write(root, "b.py", HEAD + "\nuser = Entity('user', ['uid'])\n")

    with pytest.raises(DuplicateDefinition) as caught:
        collect(root)

    assert str(caught.value) == (
        "b.py:4: two definitions of entity 'user': the other one is at a.py:3\n  next: rename or remove one of them"
    )


def test_a_file_that_hides_a_standard_module_is_refused(root: Path) -> None:
    write(root, "statistics.py", "")

    assert refused(root) == (
        "statistics.py: its name hides a module of Python's standard library, which other modules import\n"
        "  next: rename it"
    )


def test_a_missing_folder_is_named(root: Path) -> None:
    assert (
        refused(root / "nowhere") == f"no folder {root}/nowhere\n  next: name the folder that holds feature_store.yaml"
    )


def test_a_file_that_loads_its_own_repository_is_named(tmp_path: Path) -> None:
    (tmp_path / "job.py").write_text("from asof.repository import collect\ncollect(__file__.rsplit('/', 1)[0])\n")

    with pytest.raises(RepositoryError, match=r"job.py:2.*loads the repository itself"):
        collect(tmp_path)


def test_a_repository_is_read_while_another_thread_imports(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Imported(str):
        """The name of a module; whoever takes it apart is overtaken by another thread's import."""

        def split(self, *arguments: Any) -> list[str]:  # type: ignore[override]
            monkeypatch.setitem(sys.modules, f"meanwhile_{len(sys.modules)}", ModuleType("meanwhile"))
            return super().split(*arguments)

    (tmp_path / "features.py").write_text("")
    for name in (Imported("first_of_another_thread"), Imported("second_of_another_thread")):
        monkeypatch.setitem(sys.modules, name, ModuleType(str(name)))
    known = len(sys.modules)

    with importable(tmp_path, {"features": tmp_path / "features.py"}):
        pass

    assert len(sys.modules) > known
