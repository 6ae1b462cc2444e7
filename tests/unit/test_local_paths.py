"""A URL is never taken for a path, and a file URL is one."""

from __future__ import annotations

import pytest

from asof.values.local_paths import NotLocal, local_path, scheme_of

REMOTE = (
    "s3://bucket/registry.db", "S3://bucket/registry.db", "s3a://b/x", "gs://b/x", "gs:/b/x", "abfss://c@a.dfs.core/x",
    "hdfs://n/x", "http://h/x", "https://h/x", "postgresql://u:pw@h/db", "postgresql+psycopg://u:pw@h/db",
    "sqlite:///x.db", "sqlite+pysqlite:////x.db", "jdbc:postgresql://h/db", "redis://h", "unix:///run/x", " s3://b/x",
    "dbfs:/x", "file://other/x", "file://x.db", "memory://x",
)  # fmt: skip


@pytest.mark.parametrize("text", REMOTE)
def test_a_url_is_refused_without_its_password(text: str) -> None:
    with pytest.raises(NotLocal) as refused:
        local_path(text)
    assert "pw" not in str(refused.value)


@pytest.mark.parametrize(
    "text",
    [
        "data/registry.db",
        "/abs/x",
        "../x",
        "./s3:/x",
        "~/x",
        "a:b",
        "a:b/c",
        "2024-01-01T00:00/x",
        "x/s3://y",
        "x y",
        "",
    ],
)
def test_a_path_stays_as_it_is(text: str) -> None:
    assert local_path(text) == text
    assert scheme_of(text) == ""


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("file:///a/b.db", "/a/b.db"), ("file:/a/b.db", "/a/b.db"), ("FILE://localhost/a", "/a"),
        ("file:///a%20b/%C3%A9.parquet", "/a b/é.parquet"), ("file:///a/*.parquet", "/a/*.parquet"),
    ],
)  # fmt: skip
def test_a_file_url_is_the_path_that_it_names(url: str, path: str) -> None:
    assert local_path(url) == path


def test_a_file_url_without_a_path_or_with_a_zero_is_refused() -> None:
    for url in ("file:///a%00b", "file://host"):
        with pytest.raises(NotLocal):
            local_path(url)


def test_a_file_url_of_another_machine_says_so() -> None:
    with pytest.raises(NotLocal, match="three slashes.*another machine"):
        local_path("file://data/registry.db")
