"""The settings of object storage: which addresses are taken, what the drivers get, and that no secret is shown."""

from __future__ import annotations

from pathlib import Path

import pytest

from asof.config import load_config
from asof.connections.object_storage import ObjectStorage, StorageSettings
from asof.connections.object_storage.errors import ObjectChanged, StorageOutage, translated
from asof.errors import ConfigError, StorageError
from asof.values.local_paths import is_object_address


def write(root: Path, text: str) -> Path:
    (root / "feature_store.yaml").write_text(f"project: shop\n{text}")
    return root


def test_archives_may_be_in_a_bucket_and_its_secrets_are_not_shown(tmp_path: Path) -> None:
    root = write(
        tmp_path,
        "offline_store:\n  path: s3://shop/features/\n"
        "storage:\n  endpoint: https://s3.example\n  access_key_id: AKIA\n  secret_access_key: ${SECRET}\n",
    )
    config = load_config(root, environ={"SECRET": "hidden"})

    assert config.offline_store.options["path"] == "s3://shop/features"
    assert config.storage.secret_access_key == "hidden"
    assert "hidden" not in repr(config) and "hidden" not in str(config.describe()) and "AKIA" not in repr(config)


@pytest.mark.parametrize("path", ["s3://", "s3:///shop", "s3://key:secret@shop/x", "s3://shop/x?region=eu"])
def test_an_address_that_is_none_is_refused(tmp_path: Path, path: str) -> None:
    with pytest.raises(ConfigError, match="expected an address such as s3://bucket/prefix") as caught:
        load_config(write(tmp_path, f"offline_store:\n  path: {path}\n"))
    assert "secret" not in caught.value.message and caught.value.where == "feature_store.yaml:3"


def test_where_only_a_path_will_do_an_address_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"online_store.path .*a local path is expected"):
        load_config(write(tmp_path, "online_store:\n  path: s3://shop/x\n"))


def test_both_drivers_get_the_same_settings() -> None:
    settings = StorageSettings(endpoint="http://s3", region="eu", allow_http=True, access_key_id="k", retries=2)

    assert settings.of_scheme("s3") == {"endpoint": "http://s3", "region": "eu", "access_key_id": "k"}
    delta = settings.delta_options("s3")
    assert (delta["aws_endpoint"], delta["aws_region"], delta["aws_access_key_id"]) == ("http://s3", "eu", "k")
    assert (delta["allow_http"], delta["max_retries"], delta["aws_conditional_put"]) == ("true", "2", "etag")
    assert StorageSettings(account_key="k").delta_options("az")["azure_storage_account_key"] == "k"
    google = StorageSettings(endpoint="https://storage.example", service_account="key.json")
    assert google.of_scheme("gs") == {"base_url": "https://storage.example", "service_account": "key.json"}
    assert google.delta_options("gs")["google_base_url"] == "https://storage.example"
    assert "secret" not in repr(StorageSettings(secret_access_key="secret", account_key="secret"))


def test_a_profile_supplies_what_is_not_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / ".aws").mkdir()
    (tmp_path / ".aws/config").write_text("[profile dev]\nregion = eu-1\n[profile role]\nrole_arn = arn\n")
    (tmp_path / ".aws/credentials").write_text("[dev]\naws_access_key_id = k\naws_secret_access_key = s%x\n")

    assert StorageSettings(profile="dev", region="us").of_scheme("s3") == {
        "access_key_id": "k", "secret_access_key": "s%x", "region": "us",
    }  # fmt: skip
    with pytest.raises(ConfigError, match="no profile 'prod'"):
        StorageSettings(profile="prod").of_scheme("s3")
    with pytest.raises(ConfigError, match="its keys come from a role"):
        StorageSettings(profile="role").of_scheme("s3")


def test_what_a_driver_says_is_one_clear_error() -> None:
    for text, kind, said in (
        ("Generic S3 error: ... 403 Forbidden: <Error><Code>AccessDenied</Code>", StorageError, "access denied"),
        ("... 503 Service Unavailable: <Code>SlowDown</Code>", StorageOutage, "slow down"),
        ("Generic MicrosoftAzure error\n ↳ Invalid Access Key\n ↳ Invalid symbol 33", StorageError, "is no key"),
        ("... 403 Forbidden: Server failed to authenticate the request.", StorageError, "secret key is wrong"),
        ("↳ Unable to open service account file from /key.json", StorageError, "service_account cannot be read"),
        ("Unable to decode service account file: missing field", StorageError, "is no key file"),
        ("HTTP error: error sending request\n\nDebug source:\n…", StorageOutage, "cannot be reached"),
        ("Kernel error -> ...\n  failed to load IMDS session token", StorageError, "no credentials"),
        ("412 Precondition Failed", ObjectChanged, "changed meanwhile"),
        ("something odd\n\nDebug source:\nRetryError(...)", StorageError, "s3://b/k: something odd"),
    ):
        error = translated(RuntimeError(text), "s3://b/k")
        assert type(error) is kind and said in error.message and "Debug source" not in str(error), text


def test_without_credentials_the_next_step_is_that_of_the_provider() -> None:
    for text, named in (
        (
            "Generic GCS error: Error performing GET http://metadata.google.internal/computeMetadata/v1",
            "service_account",
        ),
        ("Generic MicrosoftAzure error: GET http://169.254.169.254/metadata/identity/oauth2/token", "account_key"),
        ("Generic MicrosoftAzure error: Account must be specified", "AZURE_STORAGE_ACCOUNT_NAME"),
        ("Generic S3 error: Error performing PUT http://169.254.169.254/latest/api/token", "AWS_ACCESS_KEY_ID"),
    ):
        error = translated(RuntimeError(text), "x")
        assert ("there are no credentials" in error.message) == ("169.254" in text or "google" in text)
        assert named in (error.hint or ""), text


def test_an_address_is_known_by_its_scheme() -> None:
    assert [is_object_address(each) for each in ("s3://b/x", "gs://b", "az://b", "file:///x", "./s3:/x", "https://x")] == [
        True, True, True, False, False, False,
    ]  # fmt: skip


def test_an_address_with_credentials_is_refused_without_showing_them() -> None:
    with pytest.raises(StorageError, match="has credentials in it") as caught:
        ObjectStorage(StorageSettings()).read("s3://me:hunter2@bucket/x")
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(("text", "problem"), [("", "has 0 certificates"), (None, "cannot be read")])
def test_an_authority_that_is_no_certificate_is_refused(text: str | None, problem: str, tmp_path: Path) -> None:
    path = tmp_path / "authority.pem"
    if text is not None:
        path.write_text(text)
    settings = StorageSettings(endpoint="https://s3.example", ca_file=str(path))
    with pytest.raises(ConfigError, match=f"storage.ca_file .*authority.pem {problem}"):
        settings.client_options()
    with pytest.raises(ConfigError, match=problem):
        settings.delta_options("s3")


def test_an_authority_without_an_endpoint_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="there is no endpoint"):
        StorageSettings(ca_file=str(tmp_path / "authority.pem")).delta_options("s3")
