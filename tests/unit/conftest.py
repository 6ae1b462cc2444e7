"""How the unit tests are spread over processes."""

import pytest

from tests.unit.architecture.tree import parsed


def pytest_collection_modifyitems(items):
    # Each process that runs one of these parses the whole package; so with `--dist loadgroup` it is one process.
    for item in items:
        if getattr(item.module, "parsed", None) is parsed:
            item.add_marker(pytest.mark.xdist_group("parsed"))
