"""The document of the API against the server itself: generated requests are answered as it says."""

from __future__ import annotations

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    negative_data_rejection,
    response_schema_conformance,
    status_code_conformance,
    unsupported_method,
)

from tests.integration.test_server_processes import built, folder, serving

pytestmark = [pytest.mark.integration, pytest.mark.timeout(200)]

__all__ = ["built", "folder"]

CHECKS = [
    not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance,
    negative_data_rejection, unsupported_method,
]  # fmt: skip


def test_the_document_of_the_api_is_true(folder):
    tried: dict[str, int] = {}
    with serving(folder) as server:
        schema = schemathesis.openapi.from_url(f"http://127.0.0.1:{server.port}/openapi.json")
        for result in schema.get_all_operations():
            operation = result.ok()
            for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE):
                if mode == GenerationMode.NEGATIVE and not operation.body:
                    continue

                # Each good request to materialize is a run; and without a body there is little to vary.
                is_run = "materialize" in operation.path and mode == GenerationMode.POSITIVE
                examples = 1 if is_run else 10 if operation.body else 3

                @settings(
                    max_examples=examples, deadline=None, derandomize=True, database=None,
                    suppress_health_check=list(HealthCheck),
                )  # fmt: skip
                @given(case=operation.as_strategy(generation_mode=mode))
                def one(case):
                    tried[case.operation.path] = tried.get(case.operation.path, 0) + 1
                    case.call_and_validate(checks=CHECKS, timeout=60)

                one()
        assert server.ask("GET", "/health").status == 200

    assert set(tried) >= {"/get-online-features", "/v1/features", "/push", "/materialize", "/jobs/{id}", "/health"}
    assert sum(tried.values()) > 100
