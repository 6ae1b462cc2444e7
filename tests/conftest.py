"""What holds for all tests: readable assertions in the shipped suites too."""

import pytest

# The conformance suites are part of the package; without this their failures would show no values.
pytest.register_assert_rewrite("asof.testing")
