"""Mutated requests never see a traceback, a hang or a connection that is closed without an answer."""

import http.client
import json

import numpy as np
import pytest
import tensorflow as tf
from tensorflow_serving.apis import predict_pb2

from dgin_tf.serving.online.event_intake import CenterSink, EventIntake
from dgin_tf.stores.state_store import InMemoryStore
from tests.serving.online.running import exchange, running, served

PREDICT = "/v1/models/base_model:predict"
TOKENS = [
    *(
        b"[",
        b"]",
        b"{",
        b"}",
        b'"',
        b",",
        b":",
        b"null",
        b"true",
        b"false",
        b"-1",
        b"1e999",
        b"NaN",
    ),
    *(b"9" * 30, b"0.5", b"\\ud800", b"\x00", b"\xff", b'{"b64": "x"}', b"[[]]", b"[" * 40),
    *(
        b'"history"',
        b'"candidates"',
        b'"user_id"',
        b'"inputs"',
        b'"instances"',
        b'"signature_name"',
    ),
    *(
        b'"item_id"',
        b'"raw_ids"',
        b'"before"',
        b'"context"',
        b'"top_n"',
        b'"events"',
        b'"sequence"',
    ),
]


@pytest.fixture(scope="module")
def service(base_model):
    store = InMemoryStore()
    sink = CenterSink(base_model.version, store)
    model = served("base_model", base_model.version.parent, states=store)
    with running(model, intake=EventIntake(lambda: [sink]), with_grpc=True) as handle:
        yield handle


@pytest.fixture(scope="module")
def seeds(base_model):
    """(Path, body) of requests that are answered."""
    folder = base_model.version / "assets.extra/requests"
    seeds = [(PREDICT, path.read_bytes()) for path in sorted(folder.iterdir())]
    rows = {"instances": [{"hist_item_id": [2, 3], "hist_category_id": [2, 2]}]}
    seeds.append((PREDICT, json.dumps({"signature_name": "encode_user", **rows}).encode()))
    for request in (
        {"user_id": 7, "candidates": [5, 9], "top_n": 1},
        {"history": ["item 5"], "candidates": ["item 9"], "raw_ids": True},
        {"history": {"item_id": [5], "category_id": [2]}, "candidates": [9], "context": {}},
    ):
        seeds.append(("/rank", json.dumps(request).encode()))
    event = {"user_id": "u7", "sequence": 1, "item_id": "item 5", "timestamp": 1_500_000_000}
    seeds.append(("/events", json.dumps({"events": [event, event]}).encode()))
    seeds.append(("/events", json.dumps(event).encode() + b"\n" + json.dumps(event).encode()))
    return seeds


def mutated(rng, body):
    """A body with a few bytes or tokens put in, taken out, repeated or exchanged."""
    for _ in range(rng.integers(1, 4)):
        begin, end = sorted(rng.integers(0, len(body) + 1, 2).tolist())
        end = min(end, begin + int(rng.choice([0, 1, 3, 20, len(body)])))
        middle = rng.choice([0, 1, 2, 3])
        token = TOKENS[rng.integers(len(TOKENS))]
        part = (b"", token, body[begin:end] * 2, bytes(rng.integers(0, 256, 3, np.uint8)))[middle]
        body = body[:begin] + part + body[end:]
    return body[: 1 << 16]


def fuzz_http(service, seeds, count, seed):
    rng = np.random.default_rng(seed)
    connection = http.client.HTTPConnection("127.0.0.1", service.port, timeout=60)
    codes = set()
    for _ in range(count):
        path, body = seeds[rng.integers(len(seeds))]
        status, answer, headers = exchange(connection, "POST", path, mutated(rng, body))
        codes.add(status)
        assert status in (200, 400), (status, answer)
        assert headers.get("connection") != "close"
        if status == 400:
            sentence = answer["error"]
            assert sentence
            assert not {"Traceback", "Graph execution error"} & set(sentence.splitlines())
    assert codes == {200, 400}
    assert exchange(connection, "GET", "/health/ready")[0] == 200


def fuzz_grpc(service, base_model, count, seed):
    rng = np.random.default_rng(seed)
    request = predict_pb2.PredictRequest()
    request.model_spec.name = "base_model"
    inputs = json.loads(
        (base_model.version / "assets.extra/requests/serving_default.json").read_text()
    )
    for name, value in inputs["inputs"].items():
        request.inputs[name].CopyFrom(tf.make_tensor_proto(np.array(value, np.int32)))
    whole = request.SerializeToString()
    codes = set()
    with service.channel() as channel:
        call = channel.unary_unary("/tensorflow.serving.PredictionService/Predict")
        for _ in range(count):
            codes.add(call.future(mutated(rng, whole), timeout=60).code())
        assert call(whole, timeout=60)
    # Another model's name is a mutation too.
    allowed = {"OK", "INVALID_ARGUMENT", "NOT_FOUND"}
    assert {"OK", "INVALID_ARGUMENT"} <= {code.name for code in codes} <= allowed


def test_mutated_bodies_get_a_sentence(service, seeds):
    fuzz_http(service, seeds, 2_000, seed=1)
    assert service.faults == []


def test_mutated_messages_get_a_status(service, base_model):
    fuzz_grpc(service, base_model, 500, seed=2)
    assert service.faults == []


@pytest.mark.slow
def test_a_hundred_thousand_mutated_requests_are_all_answered(service, seeds, base_model):
    fuzz_http(service, seeds, 80_000, seed=3)
    fuzz_grpc(service, base_model, 20_000, seed=4)
    assert service.faults == []
