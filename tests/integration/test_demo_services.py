"""The demo on real servers tells the story of the embedded one, down to each value of its training set."""

import re
import shlex
import stat
import subprocess
import uuid
from dataclasses import replace
from pathlib import Path

import psycopg
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from asof.cli.app import cli
from asof.demo import story
from asof.demo.postgres import NameTaken
from asof.demo.stage import DemoServers
from asof.errors import AsofError

pytestmark = pytest.mark.integration

SHOP = {"users": 200, "ticks": 10_000, "seed": 5}


@pytest.fixture(scope="module")
def embedded(tmp_path_factory):
    output = tmp_path_factory.mktemp("embedded")
    return output, story.run(output, **SHOP, say=lambda text: None)


@pytest.fixture
def servers(postgres_url, kafka, redis):
    """Servers with a name of this test's own; what the demo leaves on shared ones is removed."""
    made = []

    def name(offline="duckdb", message_format="json", project=None):
        project = project or f"demo_{uuid.uuid4().hex[:8]}"
        made.append(project)
        return DemoServers(postgres_url, kafka.bootstrap, redis.url, offline, message_format, project)

    yield name
    for project in set(made):
        remove(kafka, redis, project)


def remove(kafka, redis, project):
    for topic in kafka.admin().list_topics(timeout=10).topics:
        if topic.startswith((f"{project}_", f"{project}.")):
            kafka.delete_topic(topic)
    with redis.client() as client:
        keys = list(client.scan_iter(f"*{project}*"))
        if keys:
            client.delete(*keys)


@pytest.mark.parametrize("message_format", ["json", "avro"])
@pytest.mark.parametrize("offline", ["duckdb", "postgres"])
def test_its_training_set_is_that_of_the_embedded_demo(embedded, servers, tmp_path, offline, message_format):
    expected, told = embedded
    said = []

    report = story.run(tmp_path, **SHOP, servers=servers(offline, message_format), say=said.append)

    for name in ("source/users.parquet", "source/orders.parquet", "training_set.parquet"):
        assert pq.read_table(tmp_path / name).equals(pq.read_table(expected / name)), name
    assert pq.read_table(tmp_path / "training_set.parquet").num_rows > 100
    assert report["histograms"] == told["histograms"]
    assert (report["online"]["before"], report["online"]["after"]) == (
        told["online"]["before"],
        told["online"]["after"],
    )
    assert report["audit"]["differences"] == [] and report["audit"]["active_keys"] > 0
    assert report["audit"]["equal"] == report["audit"]["values"]


def test_it_can_be_told_again_and_its_commands_work(servers, tmp_path):
    there = servers()
    first = story.run(tmp_path, **SHOP, servers=there, say=lambda text: None)
    again = story.run(tmp_path, **SHOP, servers=there, say=lambda text: None)

    assert {**again, "steps": None, "next_commands": None} == {**first, "steps": None, "next_commands": None}
    commands = [each["command"] for each in again["next_commands"]]
    chosen = [
        commands[0],
        *(each for each in commands if any(verb in each for verb in ("get online", "audit", "doctor"))),
    ]
    done = subprocess.run(["sh", "-ec", "\n".join(chosen)], capture_output=True, text=True, cwd=tmp_path)
    assert len(chosen) == 4
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_page_about_it_shows_what_its_commands_answer(servers, tmp_path, monkeypatch):
    page = (Path(__file__).parents[2] / "docs" / "how-to" / "real-stack.md").read_text()
    page, _, _ = page.partition("## In a bucket")  # whose settings test_demo_repository.py compares
    blocks = re.findall(r"^```(\w+)\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    there = servers(project="asof_demo")
    story.run(tmp_path, servers=there, say=lambda text: None)
    repo, features = tmp_path / "repo", (tmp_path / "repo" / "features.py").read_text()
    monkeypatch.chdir(repo)
    for name, value in there.variables.items():
        monkeypatch.setenv(name, value)
    settings = re.sub(r"^ *#.*\n|\n(?=\n)", "", (repo / "feature_store.yaml").read_text(), flags=re.MULTILINE)

    done = 0
    for language, block in blocks:
        if language == "yaml":
            assert block in settings
        elif "Producer(" in block:
            exec(compile(block, "real-stack.md", "exec"), {})
        elif language == "python":
            assert all(line in features for line in block.splitlines())
        for command in block.split("$ asof ")[1:] if language == "console" else ():
            words, _, shown = command.partition("\n")
            asked = CliRunner().invoke(cli, shlex.split(words), env={"COLUMNS": "100"})
            said = " ".join(asked.stdout.split())
            for part in shown.removesuffix("$ ").split("…"):
                if " ".join(part.split()) not in said:
                    pytest.fail(f"asof {words} answered:\n{asked.output}\nwhere the page shows:\n{shown}")
            done += 1
    assert done == 5


def test_secrets_stand_in_one_file_that_only_its_owner_reads(servers, tmp_path):
    said = []
    story.run(tmp_path, users=20, ticks=500, seed=5, servers=servers(), say=said.append)

    holders = [path for path in tmp_path.rglob("*") if path.is_file() and b"asof-secret" in path.read_bytes()]
    assert holders == [tmp_path / "repo" / "servers.env"]
    assert stat.S_IMODE(holders[0].stat().st_mode) == 0o600
    assert "asof-secret" not in "\n".join(said)


def test_it_does_not_touch_what_it_did_not_make(servers, kafka, postgres_url, tmp_path):
    there = servers()
    with psycopg.connect(postgres_url) as connection:
        connection.execute(f"CREATE SCHEMA {there.project}")
        connection.execute(f"CREATE TABLE {there.project}.users (mine int)")

    with pytest.raises(NameTaken, match=f"schema '{there.project}' already exists in PostgreSQL at"):
        story.run(tmp_path / "a", users=20, ticks=500, servers=there, say=lambda text: None)
    with psycopg.connect(postgres_url) as connection:
        connection.execute(f"TABLE {there.project}.users")

    other = servers()
    kafka.create_topic(f"{other.project}_traffic", 2)
    with pytest.raises(
        NameTaken, match=f"topic '{other.project}_traffic' already exists in Kafka at {kafka.bootstrap}"
    ):
        story.run(tmp_path / "b", users=20, ticks=500, servers=other, say=lambda text: None)
    assert len(kafka.admin().list_topics(timeout=10).topics[f"{other.project}_traffic"].partitions) == 2


@pytest.mark.parametrize("server", ["postgres", "kafka", "redis"])
def test_a_server_that_is_not_there_is_named(servers, tmp_path, server):
    nowhere = "postgresql://asof:asof-secret@127.0.0.1:9/asof" if server == "postgres" else "127.0.0.1:9"
    there = replace(servers(), **{server: nowhere})

    with pytest.raises(AsofError, match=r"127\.0\.0\.1(:9|.*port 9)") as raised:
        story.run(tmp_path, users=20, ticks=500, servers=there, say=lambda text: None)

    assert raised.value.hint and "asof-secret" not in str(raised.value)
