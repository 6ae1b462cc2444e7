"""The plan in CI: exit codes, Markdown, the GitHub Action's scripts, and the hook of pre-commit."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from click.testing import CliRunner, Result

from asof.cli.app import cli
from asof.cli.context import CliContext
from asof.definitions import Project
from asof.planning.changes import Create, Plan
from asof.planning.markdown import MOST_CHARACTERS, as_markdown

ROOT = Path(__file__).parents[2]
ACTION = ROOT / "deploy" / "github" / "plan"

DEFINITIONS = """
from asof import Entity, FeatureView, Field, FileSource
from asof.types import Int64, Timestamp

sales = FileSource("sales.parquet", name="sales", timestamp_field="at")
latest = FeatureView("latest", entities=[Entity("user")], source=sales, schema=[Field("price", Int64)])
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    repo = tmp_path / "shop"
    repo.mkdir()
    (repo / "feature_store.yaml").write_text("project: shop\n")
    (repo / "features.py").write_text(DEFINITIONS)
    at = pa.array([1_767_225_600_000_000], pa.timestamp("us", "UTC"))
    pq.write_table(pa.table({"user": [1], "price": [7], "at": at}), repo / "sales.parquet")
    return repo


def asof(folder: Path, *args: str) -> Result:
    return CliRunner().invoke(cli, ["-C", str(folder), *args], obj=CliContext())


def test_the_exit_code_says_whether_there_is_anything_to_apply(folder: Path) -> None:
    markdown = folder / "plan.md"

    assert asof(folder, "plan").exit_code == 0
    changed = asof(folder, "plan", "--exit-code", "--output", "json", "--markdown", str(markdown))
    assert changed.exit_code == 12
    assert [each["action"] for each in json.loads(changed.stdout)["plan"]["changes"]].count("create") == 3
    assert markdown.read_text().startswith("### Asof plan of project shop: ")
    assert "feature view" in markdown.read_text()

    assert asof(folder, "apply", "--yes").exit_code == 0
    assert asof(folder, "plan", "--exit-code", "--markdown", str(markdown)).exit_code == 0
    assert markdown.read_text().startswith("### Asof plan of project shop: nothing to apply\n")

    (folder / "features.py").write_text(DEFINITIONS.replace('"price"', '"prize"'))
    wrong = asof(folder, "plan", "--exit-code", "--output", "json", "--markdown", str(markdown))
    assert wrong.exit_code == 10
    assert "prize" in json.dumps(json.loads(wrong.stdout)["plan"]["findings"])
    assert markdown.read_text().startswith("### Asof plan of project shop: 1 error, which block")
    nowhere = asof(folder, "plan", "--markdown", str(folder / "no" / "plan.md"))
    assert nowhere.exit_code == 8 and "choose another file for --markdown" in nowhere.stderr


def test_a_long_plan_is_cut_and_no_text_of_it_ends_the_fence() -> None:
    names = [f"view_{i}_{'x' * 100}" for i in range(1000)]
    long = as_markdown(Plan("shop", 1, Project(), tuple(Create("feature view", name) for name in names)))
    odd = as_markdown(Plan("shop", 1, Project(), (Create("feature view", "a\n```\nb"),)))

    assert len(long) < MOST_CHARACTERS + 500 and "cut; `asof plan` shows all" in long
    assert "````text\n" in odd and odd.endswith("\n````\n")


def test_the_action_and_the_hook_are_well_formed() -> None:
    for file, schema in (("action.yml", "vendor.github-actions"), ("example.yml", "vendor.github-workflows")):
        command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", schema, str(ACTION / file)]
        checked = subprocess.run(command, capture_output=True, text=True)
        assert checked.returncode == 0, checked.stdout + checked.stderr
    (hook,) = yaml.safe_load((ROOT / ".pre-commit-hooks.yaml").read_text())

    assert {"id", "name", "entry", "language"} <= hook.keys() and hook["entry"] == "asof --quiet plan"
    for script in ACTION.glob("*.sh"):
        assert subprocess.run(["bash", "-n", str(script)]).returncode == 0


@pytest.fixture
def runner(tmp_path: Path, folder: Path) -> dict[str, str]:
    """The environment of a step of a job; `gh` keeps comments in a file."""
    tools = tmp_path / "tools"
    tools.mkdir()
    (tools / "gh").write_text(FAKE_GH.replace("PYTHON", sys.executable))
    (tools / "asof").write_text(f'#!/bin/sh\nexec {sys.executable} -m asof "$@"\n')
    for each in tools.iterdir():
        each.chmod(0o755)
    return {
        "PATH": f"{tools}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT / "src"), "RUNNER_TEMP": str(tmp_path),
        "GITHUB_OUTPUT": str(tmp_path / "output"), "GITHUB_STEP_SUMMARY": str(tmp_path / "summary"),
        "GITHUB_REPOSITORY": "shop/features", "PULL_REQUEST": "7", "COMMENTS": str(tmp_path / "comments.json"),
        "INPUT_REPO": str(folder), "INPUT_ENV": "", "INPUT_ASOF": "asof", "MARK": '<!-- asof plan: "a" -->',
    }  # fmt: skip


FAKE_GH = """#!PYTHON
import json, os, sys
from pathlib import Path
file = Path(os.environ["COMMENTS"])
comments = json.loads(file.read_text()) if file.exists() else [{"id": 3, "body": "looks good"}]
args = sys.argv[1:]
if "--method" not in args:
    for each in comments:
        print(json.dumps([each["id"], each["body"]]))
    sys.exit()
body = Path(next(each for each in args if each.startswith("body=@")).removeprefix("body=@")).read_text()
if "PATCH" in args:
    id = int(next(each for each in args if each.startswith("repos/")).rsplit("/", 1)[1])
    comments = [{**each, "body": body} if each["id"] == id else each for each in comments]
else:
    comments.append({"id": 10 + len(comments), "body": body})
file.write_text(json.dumps(comments))
"""


def step(script: str, environment: dict[str, str]) -> int:
    return subprocess.run(["bash", str(ACTION / script)], env=environment).returncode


def outputs(environment: dict[str, str]) -> dict[str, str]:
    lines = Path(environment["GITHUB_OUTPUT"]).read_text().splitlines()
    return dict(line.split("=", 1) for line in lines)


def test_the_action_comments_the_plan_over_its_own_comment(runner: dict[str, str], folder: Path) -> None:
    comments = Path(runner["COMMENTS"])

    assert step("plan.sh", runner) == 0
    found = outputs(runner)
    assert (found["changes"], found["errors"]) == ("true", "false")
    assert not json.loads(Path(found["plan"]).read_text())["plan"]["is_empty"]
    assert step("comment.sh", runner | {"COMMENT": found["comment"]}) == 0
    (folder / "features.py").write_text(DEFINITIONS.replace('"price"', '"prize"'))
    assert step("plan.sh", runner) == 10
    found = outputs(runner)
    assert (found["changes"], found["errors"]) == ("false", "true")
    assert step("comment.sh", runner | {"COMMENT": found["comment"]}) == 0

    first, own = json.loads(comments.read_text())
    assert first["body"] == "looks good"
    assert own["body"].startswith(runner["MARK"]) and "1 error, which block" in own["body"]
    assert "1 error, which block" in Path(runner["GITHUB_STEP_SUMMARY"]).read_text()


def test_where_no_plan_can_be_made_the_action_says_why(runner: dict[str, str], folder: Path) -> None:
    (folder / "features.py").write_text("from asof import Nothing\n")

    assert step("plan.sh", runner) not in (0, 10, 12)
    assert outputs(runner)["errors"] == "true"
    assert "### Asof: no plan" in Path(outputs(runner)["comment"]).read_text()
    assert "Nothing" in Path(outputs(runner)["comment"]).read_text()
