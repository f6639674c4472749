"""The OpenAPI description holds for what the service answers."""

import pytest

schemathesis = pytest.importorskip("schemathesis")

from hypothesis import HealthCheck, given, settings  # noqa: E402
from schemathesis.checks import not_a_server_error  # noqa: E402
from schemathesis.specs.openapi.checks import (  # noqa: E402
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
]


def check(handle, examples):
    address = f"http://127.0.0.1:{handle.port}"
    schema = schemathesis.openapi.from_url(f"{address}/openapi.json")
    operations = 0
    for result in schema.get_all_operations():
        operation = result.ok()
        operations += 1

        def run(case):
            response = case.call(base_url=address)
            case.validate_response(response, checks=CHECKS)

        strategy = operation.as_strategy()
        test = settings(
            max_examples=examples,
            deadline=None,
            derandomize=True,
            suppress_health_check=list(HealthCheck),
        )(given(case=strategy)(run))
        test()
    assert operations > 15


@pytest.mark.slow
def test_generated_requests_are_answered_as_described(din_service):
    check(din_service, 200)
