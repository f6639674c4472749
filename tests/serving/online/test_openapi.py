"""The OpenAPI description holds for what the service answers."""

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi import checks

CHECKS = [
    not_a_server_error,
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_schema_conformance,
]


@pytest.mark.slow
def test_generated_requests_are_answered_as_described(din_service):
    address = f"http://127.0.0.1:{din_service.port}"
    schema = schemathesis.openapi.from_url(f"{address}/openapi.json")
    operations = [result.ok() for result in schema.get_all_operations()]
    assert len(operations) == 3 * 4 + 5  # of a model, a version and a label; and our own

    def check(case):
        case.validate_response(case.call(base_url=address), checks=CHECKS)

    limits = settings(
        max_examples=200,
        deadline=None,
        derandomize=True,
        suppress_health_check=list(HealthCheck),
    )
    for operation in operations:
        limits(given(case=operation.as_strategy())(check))()
