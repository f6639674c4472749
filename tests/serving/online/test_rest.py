"""Our service answers as TF Serving's REST interface does: rows and columns, versions, labels, errors."""

import json
import time

import numpy as np
import pytest

from dgin_tf.serving.online import openapi, rank_requests
from dgin_tf.serving.online.predict_requests import parse_json
from tests.serving.online.running import running, served


@pytest.fixture(scope="module")
def ask(din_service):
    return din_service.ask


def test_columns_give_columns(ask, inputs, din):
    status, answer = ask("POST", "/v1/models/din:predict", {"inputs": inputs})
    assert status == 200
    np.testing.assert_allclose(answer["outputs"]["probabilities"], din.expected[:4], atol=1e-6)


def test_rows_give_rows(ask, inputs, din):
    rows = [dict(zip(inputs, values, strict=True)) for values in zip(*inputs.values(), strict=True)]
    status, answer = ask("POST", "/v1/models/din/versions/1:predict", {"instances": rows})
    assert status == 200
    actual = [row["probabilities"] for row in answer["predictions"]]
    np.testing.assert_allclose(actual, din.expected[:4], atol=1e-6)


def test_every_example_request_of_the_bundle_is_answered(ask, din):
    for path in (din.version / "assets.extra/requests").iterdir():
        status, answer = ask("POST", "/v1/models/din:predict", path.read_text())
        assert status == 200, answer
        assert set(answer) == {"outputs"}


def test_status_and_metadata_are_told(ask):
    status, answer = ask("GET", "/v1/models/din")
    assert status == 200
    assert answer["model_version_status"][0]["version"] == "1"
    assert answer["model_version_status"][0]["state"] == "AVAILABLE"
    status, answer = ask("GET", "/v1/models/din/versions/1/metadata")
    definitions = answer["metadata"]["signature_def"]["signature_def"]
    assert definitions["encode_user"]["inputs"]["hist_item_id"]["dtype"] == "DT_INT32"


@pytest.mark.parametrize(
    ("path", "content", "status", "message"),
    [
        ("/v1/models/other:predict", {"inputs": {}}, 404, "Servable not found"),
        ("/v1/models/din/versions/9:predict", {"inputs": {}}, 404, "Servable not found"),
        (
            "/v1/models/din/versions/99999999999999999999:predict",
            {},
            400,
            "Failed to convert version",
        ),
        ("/v1/models/din/labels/canary:predict", {"inputs": {}}, 404, "version label: canary"),
        ("/v1/models/din:classify", {"inputs": {}}, 400, "Malformed request: POST /v1/models"),
        ("/v1/models/din", {}, 400, "Malformed request: POST /v1/models/din"),
        ("/v2/models/din", {}, 404, "is not served"),
        ("/v1/models/din:predict", "not json", 400, "expected a JSON object"),
        ("/v1/models/din:predict", {}, 400, 'either "instances"'),
        ("/v1/models/din:predict", [[]], 400, 'either "instances"'),
        ("/v1/models/din:predict", "[" * 3_000, 400, "at most 16 nested lists"),
        ("/v1/models/din:predict", {"inputs": [{}] * 100_001}, 400, "100,000 lists and objects"),
        ("/v1/models/din:predict", {"inputs": 1, "instances": [1]}, 400, 'either "instances"'),
        ("/v1/models/din:predict", {"signature_name": [1], "inputs": {}}, 400, "must be a text"),
        ("/v1/models/din:predict", {"signature_name": {}, "inputs": {}}, 400, "must be a text"),
        ("/v1/models/din:predict", {"instances": []}, 400, "at least one row"),
        ("/v1/models/din:predict", {"inputs": {"hist_item_id": [[2]]}}, 400, "missing"),
        ("/v1/models/din:predict", {"inputs": {}, "signature_name": "x"}, 400, "no signature 'x'"),
    ],
)
def test_requests_that_cannot_be_answered_get_one_sentence(ask, path, content, status, message):
    actual, answer = ask("POST", path, content)
    assert actual == status
    assert message in answer["error"]


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("hist_item_id", [[2.5, 3.0]], "must hold int32 values; got float64"),
        ("hist_item_id", [["a", "b"]], "must hold int32 values"),
        ("hist_item_id", [2, 3], "must have the shape"),
        ("hist_item_id", [[2, 3], [4]], "is ragged"),
        ("hist_item_id", [[2, 2**40]], "beyond int32"),
        ("hist_item_id", [[2, 2**80]], "must hold int32 values"),
        ("hist_item_id", [[True, False]], "must hold int32 values; got bool"),
        ("hist_item_id", [[2, True]], "must hold int32 values; got bool"),
        ("hist_item_id", None, "must hold int32 values"),
        ("hist_category_id", [[2]], "hist_category_id must have the shape of hist_item_id"),
        ("surprise", [[2]], "unknown ['surprise']"),
    ],
)
def test_wrong_types_and_shapes_are_refused_by_name(ask, name, value, message):
    inputs = {"hist_item_id": [[2, 3]], "hist_category_id": [[2, 3]]}
    content = {"signature_name": "encode_user", "inputs": {**inputs, name: value}}
    status, answer = ask("POST", "/v1/models/din:predict", content)
    assert status == 400
    assert message in answer["error"]


def test_a_history_without_events_is_answered(ask):
    inputs = {name: [[]] for name in ("hist_item_id", "hist_category_id")}
    inputs |= {name: [[2, 3]] for name in ("cand_item_id", "cand_category_id")}
    status, answer = ask("POST", "/v1/models/din:predict", {"inputs": inputs})
    assert status == 200, answer
    assert np.isfinite(answer["outputs"]["probabilities"]).all()


def test_padded_candidates_are_marked_and_below_all_others(ask, inputs):
    padded = {**inputs, "cand_item_id": [[*row[:2], 0] for row in inputs["cand_item_id"]]}
    _, answer = ask("POST", "/v1/models/din:predict", {"inputs": padded})
    outputs = {name: np.array(value) for name, value in answer["outputs"].items()}
    np.testing.assert_array_equal(outputs["mask"], [[True, True, False]] * 4)
    np.testing.assert_array_equal(outputs["probabilities"][:, 2], 0.0)
    assert (outputs["logits"][:, :2].min(1) > outputs["logits"][:, 2]).all()


def test_junk_in_place_of_a_record_is_one_sentence(ask):
    content = {"signature_name": "predict_examples", "inputs": [{"b64": "anVuaw=="}]}
    status, answer = ask("POST", "/v1/models/din:predict", content)
    assert status == 400
    assert "is required but could not be found" in answer["error"]
    content["inputs"] = [{"b64": "/////w=="}]
    status, answer = ask("POST", "/v1/models/din:predict", content)
    assert status == 400
    assert "Could not parse example" in answer["error"]


def test_one_input_may_come_without_its_name(ask, din):
    example = json.loads((din.version / "assets.extra/requests/predict_examples.json").read_text())[
        "inputs"
    ]["examples"]
    rows = {"signature_name": "predict_examples", "instances": example}
    status, answer = ask("POST", "/v1/models/din:predict", rows)
    assert status == 200, answer
    assert set(answer["predictions"][0]) == {"probabilities", "logits", "mask"}


def test_too_many_candidates_are_refused_before_the_model_sees_them(ask):
    status, answer = ask("POST", "/rank", {"history": [2], "candidates": [2] * 5_001})
    assert (status, answer["error"]) == (400, "expected at most 5,000 candidates; got 5,001.")
    inputs = {name: [[2] * 5_001] for name in ("hist_item_id", "hist_category_id")}
    inputs |= {name: [[2] * 4_999] for name in ("cand_item_id", "cand_category_id")}
    status, answer = ask("POST", "/v1/models/din:predict", {"inputs": inputs})
    assert status == 400
    assert "pairs of an event and a candidate" in answer["error"]


def test_a_text_without_end_is_read_once():
    body = b"[" * 20 + b'"' + rb"\"" * (1 << 21)
    start = time.perf_counter()
    with pytest.raises(ValueError, match="at most 16 nested"):
        parse_json(body)
    assert time.perf_counter() - start < 5  # minutes where every quote begins anew
    assert parse_json(b'["[[[[[[[[[[[[[[[[[[[[", "\\"[[[[["]') == ["[" * 20, '"' + "[" * 5]


def test_health_metrics_and_descriptions_are_served(din_service):
    assert din_service.ask("GET", "/health/live") == (200, {"status": "live"})
    assert din_service.ask("GET", "/health/ready") == (200, {"status": "ready"})
    assert b"dgin_requests_total" in din_service.ask("GET", "/monitoring/prometheus/metrics")[1]
    assert "/rank" in din_service.ask("GET", "/openapi.json")[1]["paths"]
    page = din_service.ask("GET", "/docs")[1].decode()
    assert "/v1/models/{name}:predict" in page
    assert "http" not in page.replace("https://json", "")  # it needs no network
    status, _, headers = din_service.send("GET", "/rank")
    assert (status, headers["allow"]) == (405, "POST")


def test_the_best_candidates_come_first(din_service):
    request = {"history": [5, 16], "candidates": [5, 0, 27, 16], "top_n": 2}
    status, answer = din_service.ask("POST", "/rank", request)
    assert status == 200, answer
    scores = din_service.ask("POST", "/rank", {**request, "top_n": 9})[1]["ranked"]
    assert len(scores) == 3  # padding is no candidate
    assert scores == sorted(scores, key=lambda row: -row["probability"])
    assert answer["ranked"] == scores[:2]
    assert answer["report"]["absent_candidates"] == 1
    assert answer["report"]["events"] == 2


def test_every_name_of_a_rank_request_is_described():
    body = openapi.RANK["openapi_extra"]["requestBody"]["content"]["application/json"]["schema"]
    assert set(body["properties"]) == rank_requests.NAMES


def test_without_the_token_only_health_is_answered(din_base):
    with running(served("din", din_base), token="s3cret") as handle:
        body = {"history": [2], "candidates": [3]}
        status, answer, headers = handle.send("POST", "/rank", body)
        assert (status, headers["www-authenticate"]) == (401, "Bearer")
        assert "Authorization: Bearer" in answer["error"]
        wrong = handle.send("POST", "/rank", body, {"Authorization": "Bearer s3creT"})
        assert wrong[0] == 401
        right = handle.send("POST", "/rank", body, {"Authorization": "Bearer s3cret"})
        assert right[0] == 200
        assert handle.ask("GET", "/health/live")[0] == 200
        assert handle.ask("GET", "/openapi.json")[0] == 401
