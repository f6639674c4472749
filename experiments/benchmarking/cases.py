"""What is measured of our models, each in a process of its own (`python -m experiments.benchmarking.cases`).

step      the compiled training step on batches in memory
fit       `model.fit` on batches from records, start of the epoch and Keras's loop included
score     one request, or one batch: candidates of users with or without their states at hand
request   a person's id and candidates' ids to an exported model, with its index or stored states
condense  what a model's batches are reduced to before it sees them, such as groups of events
read      batches from records, and nothing else
center    events through the User Interest Center into LMDB, many at once and one by one
extract   states of everybody in a data set into LMDB, by a model's weights
export    the same by an exported version
"""

import atexit
import concurrent.futures
import dataclasses
import functools
import inspect
import itertools
import json
import multiprocessing
import os
import pathlib
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from dgin_tf.commands.memory import return_freed_memory
from dgin_tf.commands.worker_processes import end_with_parent
from dgin_tf.records import stack_padded
from dgin_tf.schema import FIRST_ID
from experiments.benchmarking import interleaving, live_tensors
from experiments.benchmarking.workload import Shape

STEP, FIT, SCORE, REQUEST, READ, CENTER = "step", "fit", "score", "request", "read", "center"
CONDENSE, EXTRACT, EXPORT = "condense", "extract", "export"
UNIFORM = "uniform"

# Parts of a model under a name of their own: MIMN without its regularization and its induction unit,
# and with both.
PARTS: dict[str, tuple[str, dict[str, Any]]] = {
    "mimn_plain": ("mimn", {"slots": 4, "utilization_weight": 0.0, "top_k": 0}),
    "mimn_full": ("mimn", {"slots": 4}),
    "dgin": ("dgin", {"groups": 300}),  # all that histories of the shape "groups" fall into
}

_SINGLE_EVENTS = 300  # for latencies, after the batches of a turn

Turn = Callable[[], dict[str, Any]]


@dataclasses.dataclass(frozen=True)
class Case:
    """One thing to measure.

    Attributes:
      name: of the table's row.
      kind: one of the module's nine, or a peer's name.
      model: name in `dgin_tf.models.registry.MODELS` or in `PARTS`; empty for reading.
      variant: "paper" or "released", of models that have variants.
      users, candidates: of a batch or a request; of a center, the people and the events of a batch.
      data: file of batches (step, score), directory of records (fit, read, extract, export), or one for
        records, an export and what it is served with (request).
      has_state: whether a request finds the user's state encoded.
      steps_per_execution: steps in one call of the compiled function (fit).
      seconds: how long a turn lasts, where it is not one epoch of the records.
      history: events of every history, where they are not the shape's (request).
      counts_tensors: whether to measure what tensors of a step live at a time (step).
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
    history: int = 0
    counts_tensors: bool = False

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
    from dgin_tf.models.base import ModelConfig
    from dgin_tf.models.registry import MODELS

    config = ModelConfig(embedding_dim=shape.width, user_fields=("user_id",))
    name, settings = PARTS.get(case.model, (case.model, {}))
    make: Callable[..., Any] = MODELS[name]
    known = inspect.signature(make).parameters
    if "variant" in known:
        settings = {**settings, "variant": case.variant}
    if shape.short_events and "short_events" in known:
        settings = {**settings, "short_events": shape.short_events}
    return make(shape.schema(), config=config, **settings)


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

    path = _condensed(case, shape) if case.condenses else case.data
    facts: dict[str, Any] = {}
    if case.counts_tensors:  # before this process holds as much as that one does
        facts["tensors_mib"] = _in_own_process(_live_tensors, path, case, shape)
    batches = load_batches(path)
    began = time.perf_counter()
    model = _compiled(case, shape, batches[0])
    train_step = tf.function(model.train_step, autograph=False)
    train_step.get_concrete_function(batches[0])
    return_freed_memory()  # or what is free would hide as much of the step
    held = interleaving.resident_mib()  # tables, slots, batches and graphs
    loss = float(train_step(batches[0])["loss"])
    first_step = time.perf_counter() - began
    train_step(batches[-1])
    step_mib = interleaving.peak_mib() - held

    def turn():
        return interleaving.rate(
            lambda number: train_step(batches[number % len(batches)]),
            case.users * case.candidates,
            case.seconds,
        )

    facts |= {"seconds_to_first_step": first_step, "first_loss": loss, "step_mib": step_mib}
    return {**facts, "parameters": model.count_params()}, turn


def _condensed(case: Case, shape: Shape) -> str:
    """File of the case's batches as the model wants them.

    It is made in a process that ends, for TensorFlow keeps some of what it was given, and a step that
    finds it free seems to need less than it does.
    """
    path = str(_own_folder(case) / "condensed.npz")
    _in_own_process(_condense_to, path, case, shape)
    return path


def _in_own_process(function: Callable[..., Any], *args: Any) -> Any:
    spawn = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(1, spawn, end_with_parent) as pool:
        return pool.submit(function, *args).result()


def _live_tensors(path: str, case: Case, shape: Shape) -> float:
    """The most that a step's tensors hold at a time, MiB."""
    live_tensors.report_allocations()
    import tensorflow as tf

    batches = load_batches(path)
    train_step = tf.function(_compiled(case, shape, batches[0]).train_step, autograph=False)
    train_step(batches[0])
    return live_tensors.peak_mib(lambda: float(train_step(batches[-1])["loss"]))


def _condense_to(path: str, case: Case, shape: Shape) -> None:
    import tensorflow as tf

    condense = tf.function(make_model(case, shape).condense, autograph=False)
    found = [condense(batch) for batch in load_batches(case.data)]
    stacked = {name: stack_padded([batch[name].numpy() for batch in found]) for name in found[0]}
    np.savez(path, allow_pickle=False, **stacked)


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

        measured = interleaving.rate(epoch, steps * case.users * case.candidates, 0.0)
        return {**measured, "steps": steps, "cpu_ms": measured["cpu_ms"] / steps}

    return {"seconds_to_first_step": first_step}, turn


def prepare_score(case: Case, shape: Shape) -> tuple[dict[str, Any], Turn]:
    """Traces the request; a turn answers requests of changing users."""
    import tensorflow as tf

    from experiments.benchmarking.scoring import stored_answers

    requests = load_batches(case.data)
    model = make_model(case, shape)
    began = time.perf_counter()
    if case.has_state:
        answers = stored_answers(model, requests)

        def answer(number):
            return answers[number % len(answers)]()
    else:
        call = tf.function(lambda request: model(request)["logits"], autograph=False)

        def answer(number):
            return call(requests[number % len(requests)])

    answer(0)
    first = time.perf_counter() - began
    answer(1)
    return {"seconds_to_first_step": first}, _with_latencies(case, answer)


def prepare_request(case: Case, shape: Shape) -> tuple[dict[str, Any], Turn]:
    """Exports the model and fills its index or store; a turn answers requests of changing people."""
    from experiments.benchmarking.ranking_requests import PEOPLE, Service, TimedShape

    timed = TimedShape(**{**dataclasses.asdict(shape), "history": case.history})
    began = time.perf_counter()
    service = Service(make_model(case, timed), case.model, timed, pathlib.Path(case.data))
    asked = service.requests(8 * PEOPLE, case.candidates)

    def answer(number):
        return service.answer(*asked[number % len(asked)])

    for number in range(len(asked)):  # every length once: allocators and caches warm up
        answer(number)
    facts = {"seconds_to_first_step": time.perf_counter() - began, "source": service.source}
    return facts, _with_latencies(case, answer)


def prepare_condense(case: Case, shape: Shape) -> tuple[dict[str, Any], Turn]:
    """Reduces batches in memory, two at a time, as many as are made where records are read."""
    import tensorflow as tf

    batches = load_batches(case.data)
    condense = tf.function(make_model(case, shape).condense, autograph=False)
    condense(batches[0])

    def turn():
        with concurrent.futures.ThreadPoolExecutor(2) as pool:
            measured = interleaving.rate(
                lambda _: list(pool.map(condense, batches)),
                len(batches) * case.users * case.candidates,
                case.seconds,
            )
        events = measured["rate"] / case.candidates * shape.history
        return {**measured, "events_per_second": events}

    return {}, turn


def prepare_read(case: Case, shape: Shape) -> tuple[dict[str, Any], Turn]:
    """Opens a data set; a turn is one epoch of it."""
    data, options = _records(case, shape)
    epochs = iter(range(sys.maxsize))
    steps = data.steps("train", options)

    def turn():
        def epoch(_):
            for _ in data.training(options, shape.seed, next(epochs)):
                pass

        measured = interleaving.rate(epoch, steps * case.users * case.candidates, 0.0)
        return {**measured, "steps": steps, "cpu_ms": measured["cpu_ms"] / steps}

    began = time.perf_counter()
    next(iter(data.training(options, shape.seed, 0)))
    facts = {"seconds_to_first_batch": time.perf_counter() - began}
    began = time.perf_counter()
    next(iter(data.training(options, shape.seed, 1)))
    return {**facts, "seconds_to_next_epoch": time.perf_counter() - began}, turn


def prepare_center(case: Case, shape: Shape) -> tuple[dict[str, Any], Turn]:
    """Exports a model and starts a center on it; a turn is batches of events, then single ones."""
    from dgin_tf.serving.center.dead_letters import DeadLetters
    from dgin_tf.serving.center.events import EventParser
    from dgin_tf.serving.center.interest_center import InterestCenter
    from dgin_tf.serving.center.state_updates import StateUpdater
    from dgin_tf.serving.center.user_states import UserStates
    from dgin_tf.stores.lmdb_store import LmdbStore

    path, version = _exported(case, shape)
    began = time.perf_counter()
    updater = StateUpdater(version)
    states = UserStates(LmdbStore(path / "states"), updater.metadata)
    parser = EventParser(updater.schema, updater.catalogue)
    center = InterestCenter(updater, states, parser, DeadLetters(path / "letters"))
    events = _events(case.users, shape)
    center.apply(list(itertools.islice(events, case.candidates)))
    facts = {
        "seconds_to_first_step": time.perf_counter() - began,
        "state_bytes": updater.metadata["state_bytes"]["fixed"],
    }

    def turn():
        measured = interleaving.rate(
            lambda _: center.apply(list(itertools.islice(events, case.candidates))),
            case.candidates,
            case.seconds,
        )
        latencies = []
        for line in itertools.islice(events, _SINGLE_EVENTS):
            came = time.perf_counter()
            center.apply([line])
            latencies.append(1000 * (time.perf_counter() - came))
        p50, p99 = np.percentile(latencies, [50, 99])
        per_core = 1000 * case.candidates / measured["cpu_ms"]
        return {**measured, "rate_a_core": per_core, "p50_ms": float(p50), "p99_ms": float(p99)}

    return facts, turn


def prepare_extract(case: Case, shape: Shape) -> tuple[dict[str, Any], Turn]:
    """Builds a model, or exports it; a turn encodes everybody, at the rate behind the first batch.

    That batch includes loading and compiling (`first_seconds`).
    """
    import tensorflow as tf

    from dgin_tf.commands.memory import keep_freed_memory
    from dgin_tf.inputs.pipeline import BatchOptions, PreparedData
    from dgin_tf.serving.center.user_states import UserStates
    from dgin_tf.serving.encode_users import (
        Encode,
        UserStateSink,
        encode_users,
        model_encoder,
        model_metadata,
    )
    from dgin_tf.serving.export.signatures import ENCODE_USER
    from dgin_tf.serving.online.bundle_model import BundleModel
    from dgin_tf.serving.user_records import RecordUsers
    from dgin_tf.stores.lmdb_store import LmdbStore

    keep_freed_memory()  # as the command does
    data, stores = PreparedData(case.data), itertools.count()
    if case.kind == EXPORT:
        path, version = _exported(case, shape)
        bundle = BundleModel(version)
        metadata = bundle.metadata
        encode: Encode = functools.partial(bundle.run, ENCODE_USER)
    else:
        path = _own_folder(case)
        tf.keras.utils.set_random_seed(shape.seed)
        model = make_model(case, shape)
        options = BatchOptions(2, shape.history)
        model(next(iter(data.training(options, shape.seed, 0))))
        metadata, encode = model_metadata(model, case.model), model_encoder(model)
    users = RecordUsers(data, metadata, shape.history)

    def turn():
        began = time.process_time()
        with LmdbStore(path / f"states-{next(stores)}") as store:
            sink = UserStateSink(UserStates(store, metadata))
            report = encode_users(users, encode, sink, case.users)
        steps = -(-report.users // case.users)
        return {
            "rate": report.users_per_second,
            "steps": steps,
            "cpu_ms": 1000 * (time.process_time() - began) / steps,
            "users": report.users,
            "first_seconds": report.first.seconds,
            "seconds": report.seconds,
        }

    return {}, turn


PREPARE: dict[str, Callable[[Case, Shape], tuple[dict[str, Any], Turn]]] = {
    STEP: prepare_step,
    FIT: prepare_fit,
    SCORE: prepare_score,
    REQUEST: prepare_request,
    CONDENSE: prepare_condense,
    READ: prepare_read,
    CENTER: prepare_center,
    EXTRACT: prepare_extract,
    EXPORT: prepare_extract,
}


def _with_latencies(case, answer):
    """A turn that answers requests one after the other."""

    def turn():
        latencies = []

        def timed(number):
            asked = time.perf_counter()
            answer(number)
            latencies.append(1000 * (time.perf_counter() - asked))

        measured = interleaving.rate(timed, case.users * case.candidates, case.seconds)
        p50, p99 = np.percentile(latencies, [50, 99])
        return {**measured, "p50_ms": float(p50), "p99_ms": float(p99)}

    return turn


def _own_folder(case: Case) -> pathlib.Path:
    """A folder beside the case's data that is gone when the process is."""
    folder = tempfile.mkdtemp(dir=os.path.dirname(case.data))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return pathlib.Path(folder)


def _exported(case: Case, shape: Shape) -> tuple[pathlib.Path, pathlib.Path]:
    """A folder of the process's own, and the version of an untrained model in it."""
    import tensorflow as tf

    from dgin_tf.serving.export.bundle import Release, export_bundle

    path = _own_folder(case)
    tf.keras.utils.set_random_seed(shape.seed)
    release = Release(case.model, case.data, shape.history)
    return path, export_bundle(make_model(case, shape), release, path / "bundle")


def _events(people: int, shape: Shape) -> Iterator[bytes]:
    """Events of people in turn of a random order, as JSON with dense ids."""
    rng, numbers = np.random.default_rng(shape.seed), np.zeros(people, int)
    while True:
        drawn = rng.integers(people, size=4096).tolist()
        for person, item in zip(drawn, shape.draw_items(rng, (4096,)).tolist(), strict=True):
            numbers[person] += 1
            event = {
                "user_id": FIRST_ID + person,
                "sequence": int(numbers[person]),
                "item_id": item,
            }
            yield json.dumps(event).encode()


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
    """Serves one case; see `interleaving`."""

    def prepare():
        facts, turn = PREPARE[case.kind](case, shape)
        import tensorflow as tf

        return {**facts, "tensorflow": tf.__version__}, turn

    interleaving.serve(prepare)


if __name__ == "__main__":
    main(Case(**json.loads(sys.argv[1])), Shape(**json.loads(sys.argv[2])))
