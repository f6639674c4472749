"""What is measured of our models, each in a process of its own (`python -m experiments.benchmarking.cases`).

step      the compiled training step on batches in memory
fit       `model.fit` on batches from records, start of the epoch and Keras's loop included
score     one request, or one batch: candidates of users with or without their states at hand
condense  what a model's batches are reduced to before it sees them, such as groups of events
request   what a service answers: candidates of a person whose history is in a behaviour index
read      batches from records, and nothing else
"""

import concurrent.futures
import dataclasses
import inspect
import json
import pathlib
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from experiments.benchmarking import taking_turns
from experiments.benchmarking.shape import Shape, draw_batches

STEP, FIT, SCORE, READ = "step", "fit", "score", "read"
CONDENSE, REQUEST = "condense", "request"
UNIFORM = "uniform"
_SERVED_HISTORY = 100  # that an export is tried with

Turn = Callable[[], dict[str, Any]]


@dataclasses.dataclass(frozen=True)
class Case:
    """One thing to measure.

    Attributes:
      name: of the table's row.
      kind: one of the module's six, or a peer's name.
      model: name in `dgin_tf.models.registry.MODELS`; empty for reading.
      variant: "paper" or "released", of models that have variants.
      users, candidates: of a batch or a request.
      data: file of batches (step, score) or directory of records (fit, read).
      has_state: whether a request finds the user's state encoded.
      steps_per_execution: steps in one call of the compiled function (fit).
      seconds: how long a turn lasts, where it is not one pass over the records.
    """

    name: str
    kind: str
    model: str = ""
    variant: str = "released"
    users: int = 64
    candidates: int = 2
    data: str = ""
    has_state: bool = False
    steps_per_execution: int = 1
    seconds: float = 2.0

    @property
    def samples_negatives(self) -> bool:
        """Whether the model has a loss that needs a non-click for every event."""
        return self.model == "dien"

    @property
    def condenses(self) -> bool:
        """Whether batches are reduced where they are read; see `CTRModel.condense`."""
        return self.model == "dgin"


def make_model(case: Case, shape: Shape):
    """The model at the shape's sizes, the user's embedding in its head."""
    from dgin_tf.models.base import Backbone
    from dgin_tf.models.registry import MODELS

    backbone = Backbone(embedding_dim=shape.width, user_fields=("user_id",))
    make: Callable[..., Any] = MODELS[case.model]
    has_variants = "variant" in inspect.signature(make).parameters
    settings = {"variant": case.variant} if has_variants else {}
    return make(shape.schema(), backbone=backbone, **settings)


def load_batches(path: str) -> list[dict[str, Any]]:
    """Batches that `shape.draw_batches` drew, as tensors."""
    import tensorflow as tf

    with np.load(path) as arrays:
        stacked = dict(arrays)
    count = len(stacked["user_id"])
    return [{k: tf.constant(v[n]) for k, v in stacked.items()} for n in range(count)]


def prepare_step(case: Case, shape: Shape) -> tuple[dict[str, Any], Turn]:
    """Builds a model and takes two training steps."""
    import tensorflow as tf

    batches = load_batches(case.data)
    began = time.perf_counter()
    condense = (
        tf.function(make_model(case, shape).condense, autograph=False)
        if case.condenses
        else lambda b: b
    )
    batches = [condense(batches.pop(0)) for _ in range(len(batches))]
    model = _compiled(case, shape, batches[0])
    train_step = tf.function(model.train_step)
    train_step.get_concrete_function(batches[0])
    held = taking_turns.resident_mib()  # tables, slots, batches and graphs
    loss = float(train_step(batches[0])["loss"])
    first_step = time.perf_counter() - began
    train_step(batches[-1])
    step_mib = taking_turns.peak_mib() - held

    def turn():
        return taking_turns.rate(
            lambda number: train_step(batches[number % len(batches)]),
            case.users * case.candidates,
            case.seconds,
        )

    facts = {"seconds_to_first_step": first_step, "first_loss": loss, "step_mib": step_mib}
    return {**facts, "parameters": model.count_params()}, turn


def prepare_fit(case: Case, shape: Shape) -> tuple[dict[str, Any], Turn]:
    """Builds a model and takes a few steps of an epoch; a turn is one epoch."""
    data, options = _records(case, shape)
    began = time.perf_counter()
    condense = make_model(case, shape).condense
    model = _compiled(case, shape, next(iter(data.training(options, shape.seed, 0, condense))))
    some = data.training(options, shape.seed, 0, condense).take(2 * case.steps_per_execution)
    model.fit(some, verbose=0)
    first_step = time.perf_counter() - began
    steps = data.steps("train", options)
    epochs = iter(range(1, sys.maxsize))

    def turn():
        def epoch(_):
            model.fit(data.training(options, shape.seed, next(epochs), condense), verbose=0)

        measured = taking_turns.rate(epoch, steps * case.users * case.candidates, 0.0)
        return {**measured, "steps": steps, "cpu_ms": measured["cpu_ms"] / steps}

    return {"seconds_to_first_step": first_step}, turn


def prepare_score(case: Case, shape: Shape) -> tuple[dict[str, Any], Turn]:
    """Traces the request; a turn answers requests of changing users."""
    import tensorflow as tf

    requests = load_batches(case.data)
    model = make_model(case, shape)
    began = time.perf_counter()
    if case.has_state:
        # Of what can be found by a candidate's key, a state holds what an index of behaviours gives.
        encode = tf.function(lambda r: model.encode_user(model.condense(r)), reduce_retracing=True)
        states = [encode(request) for request in requests]
        score = tf.function(lambda state, request: model.score(state, request)["logits"])

        def answer(number):
            return score(states[number % len(states)], requests[number % len(requests)])
    else:
        call = tf.function(lambda request: model(request)["logits"])

        def answer(number):
            return call(requests[number % len(requests)])

    answer(0)
    first = time.perf_counter() - began
    answer(1)

    return {"seconds_to_first_step": first}, lambda: _latencies(answer, case)


def prepare_condense(case: Case, shape: Shape) -> tuple[dict[str, Any], Turn]:
    """Reduces batches in memory, two at a time, as many as are made where records are read."""
    import tensorflow as tf

    batches = load_batches(case.data)
    condense = tf.function(make_model(case, shape).condense, autograph=False)
    condense(batches[0])
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        list(pool.map(condense, batches[:2]))

    def turn():
        with concurrent.futures.ThreadPoolExecutor(2) as pool:
            measured = taking_turns.rate(
                lambda _: list(pool.map(condense, batches)),
                len(batches) * case.users * case.candidates,
                case.seconds,
            )
        events = measured["rate"] / case.candidates * shape.history
        return {**measured, "events_per_second": events}

    return {}, turn


def prepare_request(case: Case, shape: Shape) -> tuple[dict[str, Any], Turn]:
    """Exports a model and indexes the records; a turn answers requests of changing people."""
    from dgin_tf.records import decode_record, read_records
    from dgin_tf.schema import Schema
    from dgin_tf.serving.bundle import Release, export_bundle
    from dgin_tf.serving.ranker import Ranker
    from dgin_tf.stores.behavior_engine import BehaviorEngine
    from dgin_tf.stores.behavior_index import BehaviorIndex
    from dgin_tf.stores.behavior_totals import BehaviorTotals
    from dgin_tf.stores.index_building import build_index
    from dgin_tf.stores.state_store import InMemoryStore

    rng = np.random.default_rng(shape.seed)
    schema = Schema.load(case.data)
    shape = dataclasses.replace(shape, history=schema.max_history)
    with tempfile.TemporaryDirectory() as temporary:
        folder = pathlib.Path(temporary)
        model = make_model(case, shape)
        batch = draw_batches(shape, 1, 1, 2, False)
        model({name: value[0] for name, value in batch.items()})
        version = export_bundle(
            model, Release(case.model, case.data, _SERVED_HISTORY), folder / "export"
        )
        key, store = model.excerpt.key, InMemoryStore()
        totals = BehaviorTotals(store, schema, key, () if key == "item_id" else ("item_id",))
        with totals.loading() as load:
            build_index(case.data, folder / "index", key, on_history=load)
        index = BehaviorIndex(folder / "index", schema, key)
        ranker = Ranker(version, index=BehaviorEngine(index, totals) if model.kept else index)
        people = [
            int(decode_record(schema, payload)["user_id"][0])
            for path in sorted(pathlib.Path(case.data).glob("train/*"))
            for payload in read_records(path)
        ]

    def answer(number: int) -> None:
        drawn = shape.draw_candidates(rng, (case.candidates,))
        candidates = {name.removeprefix("cand_"): values for name, values in drawn.items()}
        ranker.rank_person(people[number % len(people)], candidates)

    for number in range(len(people)):
        answer(number)  # which keeps everybody's groups

    return {}, lambda: _latencies(answer, case)


def _latencies(answer: Callable[[int], Any], case: Case) -> dict[str, Any]:
    """Answers requests for a turn; rate, and median and 99th percentile of their times."""
    latencies = []

    def timed(number):
        asked = time.perf_counter()
        answer(number)
        latencies.append(1000 * (time.perf_counter() - asked))

    measured = taking_turns.rate(timed, case.users * case.candidates, case.seconds)
    p50, p99 = np.percentile(latencies, [50, 99])
    return {**measured, "p50_ms": float(p50), "p99_ms": float(p99)}


def prepare_read(case: Case, shape: Shape) -> tuple[dict[str, Any], Turn]:
    """Opens a data set; a turn is one pass over it."""
    data, options = _records(case, shape)
    epochs = iter(range(sys.maxsize))
    steps = data.steps("train", options)

    def turn():
        def epoch(_):
            for _ in data.training(options, shape.seed, next(epochs)):
                pass

        measured = taking_turns.rate(epoch, steps * case.users * case.candidates, 0.0)
        return {**measured, "steps": steps, "cpu_ms": measured["cpu_ms"] / steps}

    began = time.perf_counter()
    next(iter(data.training(options, shape.seed, 0)))
    facts = {"seconds_to_first_batch": time.perf_counter() - began}
    began = time.perf_counter()
    next(iter(data.training(options, shape.seed, 1)))
    return {**facts, "seconds_to_next_epoch": time.perf_counter() - began}, turn


PREPARE: dict[str, Callable[[Case, Shape], tuple[dict[str, Any], Turn]]] = {
    STEP: prepare_step,
    FIT: prepare_fit,
    SCORE: prepare_score,
    CONDENSE: prepare_condense,
    REQUEST: prepare_request,
    READ: prepare_read,
}


def _records(case, shape):
    from dgin_tf.inputs.pipeline import BatchOptions, PreparedData

    negatives = UNIFORM if case.samples_negatives else "none"
    options = BatchOptions(case.users, shape.history, history_negatives=negatives)
    return PreparedData(case.data), options


def _compiled(case, shape, batch):
    import tensorflow as tf

    from dgin_tf.optimizers import rowwise_adam

    tf.keras.utils.set_random_seed(shape.seed)
    model = make_model(case, shape)
    model(batch)
    optimizer = rowwise_adam(model)
    model.compile(optimizer=optimizer, steps_per_execution=case.steps_per_execution)
    optimizer.build(model.trainable_variables)
    return model


def main(case: Case, shape: Shape) -> None:
    """Serves one case; see `taking_turns`."""

    def prepare():
        facts, turn = PREPARE[case.kind](case, shape)
        import tensorflow as tf

        return {**facts, "tensorflow": tf.__version__}, turn

    taking_turns.serve(prepare)


if __name__ == "__main__":
    main(Case(**json.loads(sys.argv[1])), Shape(**json.loads(sys.argv[2])))
