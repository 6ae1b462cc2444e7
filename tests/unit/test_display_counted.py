"""Numbers with their nouns."""

import pytest

from asof.display import counted


@pytest.mark.parametrize(
    ("count", "noun", "said"),
    [
        (1, "row", "1 row"),
        (0, "row", "0 rows"),
        (1234, "key", "1,234 keys"),
        (1, "entity", "1 entity"),
        (2, "entity", "2 entities"),
    ],
)
def test_the_noun_has_the_number_s_form(count: int, noun: str, said: str) -> None:
    assert counted(count, noun) == said
