"""A configuration file that is a bomb, or carries tags of another program, is one clear error, at once."""

from __future__ import annotations

from pathlib import Path

import pytest

from asof.config import load_config
from asof.config.documents import MAX_CHARACTERS
from asof.errors import ConfigError

LAUGHS = "a: &a0 [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"b{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 30)
)
GROUPS = "a: &a0 {k: x}\n" + "".join(f"b{n}: &a{n} {{k: *a{n - 1}, l: *a{n - 1}}}\n" for n in range(1, 60))


def refused(root: Path, text: str) -> str:
    (root / "feature_store.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        load_config(root, environ={})
    assert caught.value.hint
    assert caught.value.where.startswith("feature_store.yaml")
    return caught.value.message


@pytest.mark.parametrize("bomb", [LAUGHS, GROUPS], ids=["lists", "groups"])
def test_a_bomb_of_aliases_is_refused_before_it_is_expanded(tmp_path: Path, bomb: str) -> None:
    assert "more than 50000 values" in refused(tmp_path, f"project: shop\n{bomb}")


def test_an_alias_that_is_used_a_few_times_is_what_it_stands_for(tmp_path: Path) -> None:
    (tmp_path / "feature_store.yaml").write_text(
        "project: shop\nregistry: &r {path: a.db}\nonline_store: {path: b.db}\nenvironment: &e [A]\n", encoding="utf-8"
    )
    assert load_config(tmp_path, environ={}).environment == ("A",)


@pytest.mark.parametrize("text", ["[" * 100_000, "registry: " + "{a: " * 50_000, "x: " + "[" * 5_000 + "]" * 5_000])
def test_values_within_values_without_end_are_refused(tmp_path: Path, text: str) -> None:
    assert "nested too deeply" in refused(tmp_path, text)


@pytest.mark.parametrize(
    "text",
    [
        'project: !!python/object/apply:os.system ["touch owned"]', "project: !!python/name:os.system ''",
        "project: !evil shop", "project: !!map shop", "project: !!seq shop", "registry: !!str {path: a.db}",
        "project: !!binary c2hvcA==", "registry: !!set {a, b}", "registry: !!omap [a: 1]",
    ],
)  # fmt: skip
def test_a_tag_that_is_not_yamls_own_for_its_value_is_refused(tmp_path: Path, text: str) -> None:
    assert "has no meaning here" in refused(tmp_path, text)
    assert sorted(each.name for each in tmp_path.iterdir()) == ["feature_store.yaml"]


def test_a_file_that_is_no_configuration_by_its_size_is_refused(tmp_path: Path) -> None:
    assert f"at most {MAX_CHARACTERS}" in refused(tmp_path, "project: shop\n#" + "x" * MAX_CHARACTERS)
