"""`feature_store.yaml`: what is read, what is refused and in which words."""

from __future__ import annotations

import ast
import sys
from collections.abc import Callable, Iterator
from inspect import Parameter, signature
from pathlib import Path

import pytest

from asof.cli.commands.serve import serve
from asof.config import REFERENCE, environments, load_config
from asof.config.auth import Issuer
from asof.config.sections import AUTH, PRODUCTS
from asof.connections.postgres.database import Postgres
from asof.connections.schema_registry import SchemaRegistry
from asof.errors import ConfigError
from asof.log.file import FileLog
from asof.log.kafka import KafkaLog
from asof.offline.duckdb import DuckDBOffline
from asof.offline.postgres import PostgresOffline
from asof.online.redis.settings import RedisSettings as RedisSettings
from asof.online.sqlite import SqliteOnlineStore
from asof.registry.sqlite import SqliteRegistry
from asof.server.settings import ServerSettings


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path


def write(root: Path, text: str, *, env: str = "") -> None:
    (root / (f"feature_store.{env}.yaml" if env else "feature_store.yaml")).write_text(text, encoding="utf-8")


def refused(root: Path, text: str, **environ: str) -> str:
    write(root, text)
    with pytest.raises(ConfigError) as caught:
        load_config(root, environ=environ)
    return str(caught.value)


def test_a_project_alone_is_a_whole_configuration(root: Path) -> None:
    write(root, "project: shop\n")

    config = load_config(root, environ={})

    assert (config.project, config.path, config.env, config.clock, config.notes) == (
        "shop",
        root.resolve(),
        "",
        None,
        (),
    )
    assert (config.registry.type, config.registry.options) == ("sqlite", {"path": str(root / "data/registry.db")})
    assert (config.offline_store.type, config.offline_store.options) == ("duckdb", {"path": str(root / "data/offline")})
    assert (config.online_store.type, config.online_store.options) == ("sqlite", {"path": str(root / "data/online.db")})
    assert (config.log.type, config.log.options) == ("file", {"path": str(root / "data/log"), "partitions": 1})


def test_options_are_read_in_their_types_and_paths_against_the_root(root: Path) -> None:
    write(
        root,
        "project: shop\nregistry: {path: ../shared.db, busy_timeout_s: 2.5}\nclock: 2020-10-18T05:46:40Z\n"
        "offline_store:\n  type: duckdb\n  path: /abs/offline\n  memory_limit: 4GB\n  threads: 3\n",
    )

    config = load_config(root, environ={})

    assert config.registry.options == {"path": str(root / "../shared.db"), "busy_timeout_s": 2.5}
    assert config.offline_store.options == {"path": "/abs/offline", "memory_limit": "4GB", "threads": 3}
    assert config.offline_store.where == "feature_store.yaml:4"
    assert config.clock == "2020-10-18T05:46:40Z"


def test_the_registry_may_be_a_plain_path_as_in_feast(root: Path) -> None:
    write(root, "project: shop\nregistry: data/reg.db\n")

    assert load_config(root, environ={}).registry.options == {"path": str(root / "data/reg.db")}


def test_feasts_keys_and_types_are_taken_with_a_note(root: Path) -> None:
    write(
        root,
        "project: shop\nprovider: local\nentity_key_serialization_version: 3\nflags:\n  alpha: true\n"
        "registry:\n  registry_type: file\n  path: data/registry.db\n  cache_ttl_seconds: 60\n"
        "offline_store:\n  type: dask\n",
    )

    config = load_config(root, environ={})

    assert (config.registry.type, config.offline_store.type) == ("sqlite", "duckdb")
    assert set(config.notes) == {
        "feature_store.yaml:2: provider has no meaning in Asof and is ignored",
        "feature_store.yaml:3: entity_key_serialization_version has no meaning in Asof and is ignored",
        "feature_store.yaml:4: flags has no meaning in Asof and is ignored",
        "feature_store.yaml:7: registry.type file is sqlite here",
        "feature_store.yaml:9: registry.cache_ttl_seconds has no meaning in Asof and is ignored",
        "feature_store.yaml:11: offline_store.type dask is duckdb here",
    }


def test_a_product_of_another_package_keeps_its_options_by_yamls_own_types(root: Path) -> None:
    write(
        root, "project: shop\nonline_store:\n  type: acme\n  hosts: [a, b]\n  retries: ${N}\n  tls: true\n  name: '7'\n"
    )

    part = load_config(root, environ={"N": "3"}).online_store
    assert (part.type, part.options) == ("acme", {"hosts": ["a", "b"], "retries": 3, "tls": True, "name": "7"})


@pytest.mark.parametrize(
    ("text", "environ", "found"),
    [
        ("${NAME}", {"NAME": "shop"}, "shop"),
        ("${NAME:-shop}", {}, "shop"),
        ("${NAME:-shop}", {"NAME": ""}, "shop"),
        ("${NAME:-shop}", {"NAME": "own"}, "own"),
        ("sh${MID}p_${A}${B:-b}", {"MID": "o", "A": "a"}, "shop_ab"),
    ],
)
def test_variables_come_from_the_environment(root: Path, text: str, environ: dict[str, str], found: str) -> None:
    write(root, f"project: {text}\n")

    assert load_config(root, environ=environ).project == found


def test_two_dollars_are_one_and_a_number_in_a_variable_stays_what_the_option_asks_for(root: Path) -> None:
    write(
        root, "project: shop\nregistry: /data/$${X}/${YEAR}\noffline_store: {threads: '${THREADS}'} # ${NEVER_READ}\n"
    )

    config = load_config(root, environ={"YEAR": "2024", "THREADS": "2"})

    assert config.registry.options["path"] == "/data/${X}/2024"
    assert config.offline_store.options["threads"] == 2


def test_an_unset_variable_is_named_with_its_place_and_both_remedies(root: Path) -> None:
    assert refused(root, "project: shop\nonline_store:\n  type: acme\n  password: ${REDIS_PASSWORD}\n") == (
        "feature_store.yaml:4: the environment variable REDIS_PASSWORD is not set\n"
        "  next: set it (export REDIS_PASSWORD=…), or give a default (${REDIS_PASSWORD:-…})"
    )


def test_what_is_not_a_variable_is_refused(root: Path) -> None:
    assert refused(root, "project: ${A B}\n").startswith("feature_store.yaml:1: ${A B} is not a variable\n")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "project: shop\nonlin_store:\n  type: sqlite\n",
            "feature_store.yaml:2: feature_store.yaml has no key 'onlin_store'\n  next: did you mean 'online_store'?",
        ),
        (
            "project: shop\noffline_store:\n  type: duckdb\n  memory_limits: 4GB\n",
            "feature_store.yaml:4: offline_store (type duckdb) has no key 'memory_limits'\n"
            "  next: did you mean 'memory_limit'?",
        ),
        (
            "project: shop\nthreads: 4\n",
            "feature_store.yaml:2: feature_store.yaml has no key 'threads'\n"
            "  next: it is a key of offline_store: check the indentation",
        ),
        (
            "project: shop\noffline_store:\n  threads: many\n",
            "feature_store.yaml:3: offline_store.threads: expected a whole number above 0, found text 'many'\n"
            "  next: give offline_store.threads a whole number above 0",
        ),
        (
            "project: shop\nregistry: {path: 7}\n",
            "feature_store.yaml:2: registry.path: expected text, found a number '7'\n  next: put it in quotes",
        ),
        (
            "project: shop\nonline_store: sqlite\n",
            "feature_store.yaml:2: online_store: expected a group of keys such as `type: …`, found text 'sqlite'\n"
            "  next: give online_store a group of keys such as `type: …`",
        ),
        (
            "project: shop\nclock: yesterday\n",
            "feature_store.yaml:2: clock: expected a time such as 2026-01-31T12:00:00Z, found text 'yesterday'\n"
            "  next: give clock a time such as 2026-01-31T12:00:00Z",
        ),
        (
            "registry: data/registry.db\n",
            "feature_store.yaml:1: no `project`\n  next: add a line such as `project: shop`",
        ),
        (
            "project: my-shop\n",
            "feature_store.yaml:1: project 'my-shop': expected up to 63 letters, digits and '_', beginning with a "
            "letter, "
            "without a double underscore\n  next: choose another name",
        ),
        ("project: a\nproject: b\n", "feature_store.yaml:2: key 'project' is given twice\n  next: keep one of them"),
        (
            "project: shop\nregistry:\n  path: 'a\n",
            "feature_store.yaml:4:1: not well-formed YAML: found unexpected end of stream\n"
            "  next: check the indentation and the quotes there",
        ),
        ("- project\n", "feature_store.yaml:1: expected keys like `project: shop`\n  next: see `asof init`"),
    ],
)
def test_a_mistake_is_named_with_its_line_and_the_next_step(root: Path, text: str, message: str) -> None:
    assert refused(root, text) == message


def test_a_folder_without_a_configuration_names_the_way_to_begin_one(root: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(root, environ={})

    assert str(caught.value) == (
        f"no feature_store.yaml in {root.resolve()}\n  next: run `asof init` to create a feature repository here"
    )


def test_an_environment_is_laid_over_the_base_key_by_key(root: Path) -> None:
    write(root, "project: shop\nregistry: {path: a.db}\noffline_store: {threads: 2, memory_limit: '${UNSET}'}\n")
    write(root, "project: shop_prod\noffline_store: {memory_limit: 8GB}\n", env="prod")

    config = load_config(root, env="prod", environ={})

    assert (config.project, config.env, config.notes) == ("shop_prod", "prod", ())
    assert config.registry.options["path"] == str(root / "a.db")
    assert config.offline_store.options == {"threads": 2, "memory_limit": "8GB", "path": str(root / "data/offline")}


def test_a_part_whose_type_the_environment_changes_is_replaced_whole(root: Path) -> None:
    write(root, "project: shop\nonline_store: {type: sqlite, path: x.db}\n")
    write(root, "project: shop_prod\nonline_store: {type: acme, url: here}\n", env="prod")

    assert load_config(root, env="prod", environ={}).online_store.options == {"url": "here"}


def test_an_environment_without_a_base_is_whole_by_itself_and_a_wrong_name_suggests_the_near_one(root: Path) -> None:
    write(root, "project: shop\n", env="prod")

    assert environments(root) == ["prod"]
    assert load_config(root, env="prod", environ={}).project == "shop"
    with pytest.raises(ConfigError, match=r"no feature_store.prd.yaml in .*\n  next: did you mean 'prod'\?"):
        load_config(root, env="prd", environ={})
    with pytest.raises(ConfigError, match="give --env prod, or another folder"):
        load_config(root, environ={})


def test_an_environment_that_shares_its_stores_with_the_base_is_noted(root: Path) -> None:
    write(root, "project: shop\nregistry: a.db\n")
    write(root, "offline_store: {threads: 2}\n", env="dev")

    assert load_config(root, env="dev", environ={}).notes == (
        "environment 'dev' has the same project and registry and online_store as feature_store.yaml itself",
    )


def test_secrets_are_never_shown(root: Path) -> None:
    write(
        root,
        "project: shop\nonline_store:\n  type: acme\n  password: hunter2\n  api_key: hunter2\n"
        "  auth: {token: hunter2}\n"
        "  url: redis://me:hunter2@host:1/0\n  connection_string: 'host:6379,ssl=true,password=hunter2'\n"
        "  key_ttl_seconds: 60\n",
    )

    config = load_config(root, environ={})

    assert config.online_store.options["password"] == "hunter2"
    assert "hunter2" not in repr(config) + str(config.describe())
    assert config.online_store.describe() == {
        "type": "acme", "password": "***", "api_key": "***", "auth": {"token": "***"}, "url": "redis://***@host:1/0",
        "connection_string": "host:6379,ssl=true,password=***", "key_ttl_seconds": 60,
    }  # fmt: skip


def test_every_option_is_documented_once_and_the_defaults_are_what_is_loaded(root: Path) -> None:
    positions = [(each.section, each.product, each.name) for each in REFERENCE]
    assert len(set(positions)) == len(positions)
    assert all(each.meaning.endswith(".") for each in REFERENCE)
    for option in REFERENCE:
        if option.default is not None and option.product:
            of_one = (
                f"type: {option.product}"
                if option.section != "connections"
                else f"{option.product}: {{type: {option.product}}}"
            )
            write(root, f"project: shop\n{option.section}: {{{of_one}}}\n")
            part = getattr(load_config(root, environ={}), option.section)
            found = (part[option.product] if option.section == "connections" else part).options[option.name]
            assert found == (str(root / str(option.default)) if option.kind.startswith("path") else option.default)
        elif option.name == "type" and option.default is not None:
            write(root, "project: shop\n")
            assert getattr(load_config(root, environ={}), option.section).type == option.default


def test_a_store_takes_over_the_keys_of_its_connection(root: Path) -> None:
    write(
        root,
        """
        project: shop
        connections:
          main: {type: postgres, url: "postgresql://db/shop", db_schema: sales, keepalives_idle: 5, max_conn: 3}
        online_store: {type: postgres, connection: main, max_connections: 4, replicas: [one, "two:5433"]}
        registry: {registry_type: sql, path: "postgresql+psycopg://me:${PW}@db/meta", sslrootcert: system}
        """,
    )

    config = load_config(root, environ={"PW": "hunter2"})

    assert config.connections["main"].options["schema"] == "sales"
    assert config.online_store.options["url"] == "postgresql://db/shop"
    assert config.online_store.options["max_connections"] == 4
    assert config.online_store.options["keepalives_idle_s"] == 5
    assert config.online_store.options["replicas"] == ["one", "two:5433"]
    assert "connection" not in config.online_store.options
    assert config.registry.type == "postgres"
    assert config.registry.options["sslrootcert"] == "system"
    assert "hunter2" in config.registry.options["url"]
    assert "hunter2" not in repr(config) + str(config.describe())


@pytest.mark.parametrize(
    ("text", "problem", "hint"),
    [
        ("connections: {shop: {host: db}}", "connections.shop has no type", "type: postgres"),
        ("connections: {shop: {type: postgres, hots: db}}", "has no key 'hots'", "'host'"),
        ("connections: {shop: {type: postgres, schema: a, db_schema: b}}", "'schema' twice", "keep one"),
        ("connections: {shop: {type: postgres, pgbouncer: maybe}}", "expected true or false", "pgbouncer"),
        ("connections: [shop]", "expected names", "connections"),
        ("online_store: {type: postgres, connection: shp}\nconnections: {shop: {type: postgres}}", "no connection 'shp'", "'shop'"),
        ("online_store: {type: postgres, connection: k}\nconnections: {k: {type: acme}}", "of type 'acme'", "'postgres'"),
    ],
)  # fmt: skip
def test_a_connection_that_cannot_be_is_refused_where_it_stands(root: Path, text: str, problem: str, hint: str) -> None:
    write(root, f"project: shop\n{text}\n")

    with pytest.raises(ConfigError) as caught:
        load_config(root, environ={})

    assert problem in caught.value.message
    assert hint in caught.value.hint
    assert caught.value.where.startswith("feature_store.yaml:")


def test_a_named_file_is_the_file_and_its_folder_the_repository(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(root, "project: base\n")
    write(root, "project: prod\nregistry: r.db\n", env="prod")
    (root / "conf").mkdir()
    (root / "conf" / "feature_store_prod.yaml").write_text("project: other\nregistry: r.db\n")
    monkeypatch.chdir(root)

    for file in ("feature_store.prod.yaml", root / "feature_store.prod.yaml", f"file://{root}/feature_store.prod.yaml"):
        config = load_config(file=file, environ={})
        assert (config.project, config.path, config.file) == ("prod", root, str(root / "feature_store.prod.yaml"))
    for file in (
        "conf/feature_store_prod.yaml",
        root / "conf/feature_store_prod.yaml",
        "conf/../conf/feature_store_prod.yaml",
    ):
        config = load_config(file=file, environ={})
        assert (config.project, config.registry.options["path"]) == ("other", str(root / "conf/r.db"))
        config = load_config(root, file=file, environ={})
        assert (config.project, config.registry.options["path"]) == ("other", str(root / "r.db"))
    monkeypatch.chdir(root / "conf")
    assert load_config("..", file="feature_store_prod.yaml", environ={}).project == "other"
    assert load_config(environ={}, file="../feature_store.yaml").project == "base"


def test_an_environment_of_a_named_file_is_laid_over_it(root: Path) -> None:
    (root / "shop.yaml").write_text("project: shop\nregistry: r.db\n")
    (root / "shop.prod.yaml").write_text("registry: p.db\n")
    write(root, "project: wrong\n")
    write(root, "project: wrong\n", env="prod")

    config = load_config(file=root / "shop.yaml", env="prod", environ={})
    assert (config.project, config.registry.options["path"]) == ("shop", str(root / "p.db"))
    with pytest.raises(ConfigError, match=r"no shop.dev.yaml in .*\n  next: the environments are 'prod'"):
        load_config(file=root / "shop.yaml", env="dev", environ={})


def test_a_named_file_that_cannot_be_the_configuration_says_why(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(root, "project: shop\n")
    write(root, "registry: p.db\n", env="prod")
    monkeypatch.chdir(root.parent)

    for file, folder, message in (
        (
            root / "feature_store_prod.yaml",
            None,
            "there is no configuration file .*feature_store_prod.yaml\n  next: did you",
        ),
        ("feature_store.yaml", root, "relative to the working directory: .*feature_store.yaml is there"),
        (root, None, "is a folder, not a configuration file"),
        (
            root / "feature_store.prod.yaml",
            None,
            "has no `project`, and a file given by name is read on its own(.|\n)*'prod'",
        ),
        ("s3://bucket/feature_store.yaml", None, r"the configuration file: a URL \(s3://\)"),
        (None, "s3://bucket/repository", r"the repository: a URL \(s3://\)"),
    ):
        with pytest.raises(ConfigError, match=message):
            load_config(folder, file=file, environ={})
    (root / "other.yaml").write_text("project: shop\nonlin_store: {}\n")
    with pytest.raises(ConfigError, match="other.yaml:2: other.yaml has no key 'onlin_store'"):
        load_config(file=root / "other.yaml", environ={})


PATHS = (
    "registry: {url}", "registry: {{path: {url}}}", "registry: {{registry_type: file, path: {url}}}",
    "registry:\n  type: sqlite\n  path: {url}", "online_store: {{path: {url}}}", "online_store: {{type: sqlite, path: {url}}}",
    "offline_store: {{path: {url}}}", "offline_store: {{temp_directory: {url}}}", "log: {{path: {url}}}",
    "log: {{type: file, path: {url}}}", "auth: {{audit: {url}}}", "server: {{tls_cert: {url}}}",
    "connections: {{c: {{type: postgres, sslrootcert: {url}}}}}",
)  # fmt: skip


@pytest.mark.parametrize(
    "url",
    ["s3://me:hunter2@bucket/x.db", "gs://b/x", "abfss://c@a/x", "http://h/x", "sqlite:///x.db", "redis://h", "gs:/b/x",
     "file://b/x", "'${PLACE}'"],
)  # fmt: skip
@pytest.mark.parametrize("text", PATHS)
def test_a_url_is_no_path_in_any_setting(root: Path, text: str, url: str) -> None:
    if url == "gs://b/x" and "offline_store: {{path" in text:
        url = "gs://"  # archives may be in a bucket
    message = refused(root, f"project: shop\n{text.format(url=url)}\n", PLACE="s3://me:hunter2@bucket/x.db")

    assert "feature_store.yaml:" in message and "next: " in message
    assert "a path on this machine" in message or "the path of the file alone" in message
    assert "hunter2" not in message


def test_a_server_s_url_in_the_place_of_a_path_names_the_type_that_takes_it(root: Path) -> None:
    for section, url, product in (
        ("registry", "postgresql://h/db", "postgres"), ("online_store", "redis://h", "redis"),
        ("online_store", "postgresql+psycopg://h/db", "postgres"), ("offline_store", "postgres://h/db", "postgres"),
    ):  # fmt: skip
        message = refused(root, f"project: shop\n{section}: {{path: {url}}}\n")
        assert f"give {section} `type: {product}` and `url:`" in message


def test_another_url_is_none_of_a_postgres_server(root: Path) -> None:
    for url in ("sqlite:///data/registry.db", "s3://me:hunter2@b/x", "mysql+pymysql://me:hunter2@h/db"):
        message = refused(root, f"project: shop\nregistry: {{registry_type: sql, path: '{url}'}}\n")
        assert "feature_store.yaml:2: registry.url: expected postgresql://" in message and "hunter2" not in message
    for url in ("postgresql+psycopg://h/db", "POSTGRES://h/db", "host=db dbname=shop", "service=shop"):
        write(root, f"project: shop\nregistry: {{registry_type: sql, path: '{url}'}}\n")
        assert load_config(root, environ={}).registry.options["url"] == url


def test_a_file_url_is_a_path(root: Path) -> None:
    write(
        root, f"project: shop\nregistry: file://{root}/a%20b.db\nlog: {{path: 'file:/logs'}}\n"
        "online_store: {path: 'file://localhost/o.db'}\nauth: {audit: 'file:///a/audit.jsonl'}\n",
    )  # fmt: skip
    config = load_config(root, environ={})

    assert config.registry.options["path"] == str(root / "a b.db")
    assert config.log.options["path"] == "/logs"
    assert config.online_store.options["path"] == "/o.db"
    assert config.auth.audit == "/a/audit.jsonl"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("port: 70000", "server.port: expected a whole number from 0 to 65535, found a number '70000'"),
        ("workers: 0", "server.workers: expected a whole number above 0, found a number '0'"),
        ("keep_alive_s: -1", "server.keep_alive_s: expected seconds above 0, found a number '-1'"),
        ("graceful_s: .inf", "server.graceful_s: expected seconds above 0, found a number '.inf'"),
        ("graceful_s: nan", "server.graceful_s: expected seconds above 0, found text 'nan'"),
        ("max_body_bytes: 16MB", "server.max_body_bytes: expected bytes above 0, found text '16MB'"),
        ("feature_log_share: 2", "server.feature_log_share: expected a number from 0 to 1, found a number '2'"),
        ("access_log: eror", "server.access_log: expected none, errors or all, found text 'eror'"),
        ("tls_client_certificates: no", "server.tls_client_certificates: expected optional or required, found"),
        ("wokers: 2", "server has no key 'wokers'\n  next: did you mean 'workers'?"),
        ("feature_log_services: {a: b}", "server.feature_log_services: expected a list of text, found a group of keys"),
    ],
)
def test_a_mistake_in_the_servers_section_is_named_with_its_line(root: Path, text: str, message: str) -> None:
    assert refused(root, f"project: shop\nserver:\n  {text}\n").startswith(f"feature_store.yaml:3: {message}")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("online_store: {type: redis, redis_type: cluster}", "online_store.redis_type: expected redis, redis_sentinel or"),
        ("online_store: {type: redis, db: -1}", "online_store.db: expected a whole number from 0, found"),
        ("online_store: {type: redis, timeout_s: soon}", "online_store.timeout_s: expected seconds above 0, found"),
        ("offline_store: {memory_limit: lots}", "offline_store.memory_limit: expected a size such as 4GB, found text 'lots'"),
        ("connections: {a: {type: postgres, port: 0}}", "connections.a.port: expected a whole number from 1 to 65535"),
        ("connections: {a: {type: postgres, sslmode: verify}}", "connections.a.sslmode: expected disable, allow,"),
        ("log: {type: kafka, topic_settings: {a: [1]}}", "log.topic_settings.a: expected text, a number, true or false"),
        ("log: {type: kafka, topic_settings: text}", "log.topic_settings: expected names, each with a value"),
    ],
)  # fmt: skip
def test_a_value_outside_its_declared_bounds_is_named_with_its_line(root: Path, text: str, message: str) -> None:
    assert refused(root, f"project: shop\n{text}\n").startswith(f"feature_store.yaml:2: {message}")


def test_a_word_that_is_nearly_one_of_the_choices_gets_it_as_a_hint(root: Path) -> None:
    assert refused(root, "project: shop\nserver: {access_log: error}\n").endswith("next: did you mean 'errors'?")


def test_what_the_command_line_or_code_gives_the_server_is_held_to_the_same_declaration() -> None:
    assert ServerSettings().with_options({"port": 0, "workers": None}).checked().port == 0
    for options, message in (
        ({"access_log": "error"}, "server.access_log: expected none, errors or all, found 'error'"),
        ({"port": "http"}, "server.port: expected a whole number from 0 to 65535, found 'http'"),
        ({"feature_log_share": 1.5}, "server.feature_log_share: expected a number from 0 to 1, found 1.5"),
    ):
        with pytest.raises(ConfigError) as caught:
            ServerSettings().with_options(options).checked()
        assert caught.value.message == message


def test_a_section_never_shows_its_secrets() -> None:
    assert "hunter2" not in repr(ServerSettings(tls_key_password="hunter2"))


def test_feasts_keys_are_noted_where_they_stand_and_refused_elsewhere(root: Path) -> None:
    write(root, "project: shop\nonline_store: {type: redis, key_ttl_seconds: 60, vector_enabled: true}\n")

    assert load_config(root, environ={}).notes == (
        "feature_store.yaml:2: online_store.key_ttl_seconds has no meaning in Asof and is ignored",
        "feature_store.yaml:2: online_store.vector_enabled has no meaning in Asof and is ignored",
    )
    assert "has no key 'key_ttl_seconds'" in refused(root, "project: shop\nonline_store: {key_ttl_seconds: 60}\n")


MADE_BY: dict[tuple[str, str], Callable[..., object]] = {
    ("registry", "sqlite"): SqliteRegistry,
    ("offline_store", "duckdb"): DuckDBOffline,
    ("offline_store", "postgres"): PostgresOffline,
    ("online_store", "sqlite"): SqliteOnlineStore,
    ("log", "file"): FileLog,
    ("log", "kafka"): KafkaLog,
    ("connections", "postgres"): Postgres,
    ("connections", "schema_registry"): SchemaRegistry,
    ("connections", "kafka"): KafkaLog,
    ("online_store", "redis"): RedisSettings,
    ("auth.issuers", ""): Issuer,
}
"""What takes the options of each product, with defaults of its own for those that make it in code."""


@pytest.mark.parametrize(("section", "product"), MADE_BY)
def test_what_a_product_takes_by_itself_is_what_the_reference_says(section: str, product: str) -> None:
    parameters = signature(MADE_BY[section, product]).parameters
    differing = {}
    for option in (each for each in REFERENCE if (each.section, each.product) == (section, product)):
        taken = parameters[option.name].default if option.name in parameters else Parameter.empty
        said = option.unset if option.default is None else option.default
        if taken is not Parameter.empty and not option.required and (taken or said not in (None, 0, "false")):
            said = {"true": True}.get(str(said), tuple(said) if isinstance(said, list) else said)
            if said != taken:
                differing[option.name] = (said, taken)
    assert differing == {}


UNSAID = (None, "", 0, 1, "true", "false", ())
"""Defaults that say nothing of their own: unset, empty, none, a switch. (1 is True, 0 is False.)"""


def test_a_default_is_stated_once() -> None:
    """Of an option with a default, neither the product nor its section has the value itself: both name it."""
    named = {
        option.name
        for option in REFERENCE
        if (made := MADE_BY.get((option.section, option.product))) is not None
        and (taken := signature(made).parameters.get(option.name)) is not None
        and taken.default not in (Parameter.empty, *UNSAID)
    }
    sources = {str(sys.modules[each.__module__].__file__) for each in (*MADE_BY.values(), *PRODUCTS, *AUTH)}
    offences = [
        f"{Path(path).name}:{line}: {name} = {value}"
        for path in sorted(sources)
        for name, value, line in written_defaults(ast.parse(Path(path).read_text(encoding="utf-8")))
        if name in named
    ]

    assert len(named) > 10 < len(sources)
    assert offences == []
    made = "class A:\n    def __init__(self, *, retry_s=15): ...\nclass B:\n    timeout_s: int = 5\n    name: str = ''"
    assert [name for name, *_ in written_defaults(ast.parse(made))] == ["retry_s", "timeout_s"]


def written_defaults(tree: ast.Module) -> Iterator[tuple[str, str, int]]:
    """Parameters and fields whose default is a value written there that says something."""
    for node in ast.walk(tree):
        pairs: list[tuple[str, ast.expr | None]] = []
        if isinstance(node, ast.FunctionDef) and node.name == "__init__":
            positional = [*node.args.posonlyargs, *node.args.args]
            pairs += zip((each.arg for each in positional[::-1]), node.args.defaults[::-1], strict=False)
            pairs += zip((each.arg for each in node.args.kwonlyargs), node.args.kw_defaults, strict=True)
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            keywords = [each for each in ast.walk(node.annotation) if isinstance(each, ast.keyword)]
            unset = [each.value for each in keywords if each.arg == "unset"]
            pairs += [(node.target.id, each) for each in (node.value, *unset)]
        for name, value in pairs:
            if value is None or any(isinstance(each, ast.Name) and each.id.isupper() for each in ast.walk(value)):
                continue
            written = [each.value for each in ast.walk(value) if isinstance(each, ast.Constant)]
            if any(each not in UNSAID for each in written):
                yield name, ast.unparse(value), value.lineno


def test_the_command_line_of_the_server_says_the_same_as_its_section() -> None:
    options = {each.name: each for each in REFERENCE if each.section == "server"}
    parameters = {each.name: each for each in serve.params if each.name in options}

    assert parameters.keys() == {"host", "port", "workers", "access_log", "tls_cert", "tls_key"}
    assert parameters["access_log"].type.choices == options["access_log"].shape.choices
    assert (parameters["port"].type.min, parameters["port"].type.max) == (
        options["port"].shape.least,
        options["port"].shape.most,
    )
    for name in ("host", "port", "workers"):
        assert f"{options[name].default}]" in parameters[name].help
