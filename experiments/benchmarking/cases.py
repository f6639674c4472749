"""Cases of the benchmark, each in a process of its own (`python -m experiments.benchmarking.cases`).

step      the compiled training step on batches in memory
fit       `model.fit` on batches from records, start of the epoch and Keras's loop included
score     one request, or one batch: candidates of users, with or without cached states
request   a user's id and candidates' ids to an exported model, with its index or stored states
service   the same over HTTP, from several clients in a closed loop
condense  the transform of batches that the model reads, such as groups of events
read      batches from records, and nothing else
center    events through the User Interest Center into LMDB, many at once and one by one
extract   states of all users of a data set into LMDB, by a model's weights
export    the same by an exported version
"""

import atexit
import concurrent.futures
import dataclasses
import functools
import itertools
import json
import multiprocessing
import os
import pathlib
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from dgin_tf.commands.memory import return_freed_memory
from dgin_tf.commands.worker_processes import end_with_parent
from dgin_tf.records import stack_padded
from dgin_tf.schema import FIRST_ID
from experiments.benchmarking import interleaving, live_tensors
from experiments.benchmarking.workload import Workload

STEP, FIT, SCORE, REQUEST, READ, CENTER = "step", "fit", "score", "request", "read", "center"
CONDENSE, EXTRACT, EXPORT = "condense", "extract", "export"
SERVICE = "service"
UNIFORM, RELEASED = "uniform", "released"

# Parts of a model under a name of their own: MIMN without its regularization and its induction unit,
# and with both.
PARTS: dict[str, tuple[str, dict[str, Any]]] = {
    "mimn_plain": ("mimn", {"slots": 4, "utilization_weight": 0.0, "top_k": 0}),
    "mimn_full": ("mimn", {"slots": 4}),
    "dgin": ("dgin", {"groups": 300}),  # as many as histories of the workload "groups" have
}

_SINGLE_EVENTS = 300  # for latencies, after the batches of a turn

Turn = Callable[[], dict[str, Any]]


@dataclasses.dataclass(frozen=True)
class Case:
    """One row of the benchmark's tables.

    Attributes:
      name: of the table's row.
      kind: one of the module's, or a peer's name.
      model: name in `dgin_tf.models.registry.MODELS` or in `PARTS`; empty for reading.
      variant: "paper", or "released" for the authors' code of models that have it.
      users, candidates: of a batch or a request; of a center, the users and the events of a batch; of a
        service, the clients and the candidates of a request.
      data: file of batches (step, score), directory of records (fit, read, extract, export), or one for
        records, an export and what it is served with (request, service).
      has_state: True for requests whose user's state is cached; of a service, for requests by a user's id.
      steps_per_execution: steps in one call of the compiled function (fit).
      seconds: duration of a turn, where it is not one epoch of the records.
      history: events of every history, where they are not the workload's (request).
      counts_tensors: True to measure the peak size of a step's live tensors too (step).
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
        """True where the model has a loss that needs a negative for every event."""
        from dgin_tf.models import registry

        name, values = self.model_settings()
        if name not in registry.MODELS:
            return False  # cases of reading have no model
        defaults = {key: setting.default for key, setting in registry.settings(name).items()}
        return registry.find(name).wants_negatives({**defaults, **values})

    @property
    def condenses(self) -> bool:
        """True where the model reads batches by a transform of its own, such as groups of events."""
        from dgin_tf.models import registry
        from dgin_tf.models.base import CTRModel

        model = registry.MODELS.get(self.model_settings()[0])
        return model is not None and model.input_transforms is not CTRModel.input_transforms

    def model_settings(self, short_events: int = 0) -> tuple[str, dict[str, Any]]:
        """Name of the model in the registry, and its settings: those of the case's part and variant.

        Args:
          short_events: length of the short part, in models that have one; 0 for their default.
        """
        from dgin_tf.models import registry

        name, values = PARTS.get(self.model, (self.model, {}))
        if self.variant == RELEASED and f"{name}_{RELEASED}" in registry.MODELS:
            name = f"{name}_{RELEASED}"
        known_settings = registry.settings(name) if name in registry.MODELS else {}
        if short_events and "short_events" in known_settings:
            values = {**values, "short_events": short_events}
        return name, values


def make_model(case: Case, workload: Workload):
    """Builds the model at the workload's sizes, with the user's embedding in its head."""
    from dgin_tf.models import registry
    from dgin_tf.models.base import ModelConfig

    config = ModelConfig(embedding_dim=workload.width, user_fields=("user_id",))
    name, values = case.model_settings(workload.short_events)
    return registry.make_model(name, workload.schema(), config, **values)


def load_batches(path: str) -> list[dict[str, Any]]:
    """Loads batches of `workload.save_batches` as tensors."""
    import tensorflow as tf

    with np.load(path) as file:
        arrays = dict(file)  # [batches, users, ...]
    count = len(arrays["user_id"])
    return [_nest({k: tf.constant(v[n]) for k, v in arrays.items()}) for n in range(count)]


def _nest(batch: dict[str, Any]) -> dict[str, Any]:
    """A batch with its groups, from names such as `groups/statistics/count`."""
    from dgin_tf.inputs.group_features import GROUPS
    from dgin_tf.ops.grouping import Groups

    flat = {name: value for name, value in batch.items() if not name.startswith(f"{GROUPS}/")}
    if len(flat) == len(batch):
        return batch
    parts: dict[str, Any] = {name: {} for name in Groups._fields}
    for path in batch.keys() - flat.keys():
        _, part, *name = path.split("/")
        if name:
            parts[part][name[0]] = batch[path]
        else:
            parts[part] = batch[path]
    return {**flat, GROUPS: Groups(**parts)}


def _flatten(batch: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Inverse of `_nest`."""
    from dgin_tf.inputs.group_features import GROUPS

    flat = {name: value.numpy() for name, value in batch.items() if name != GROUPS}
    for part, value in batch[GROUPS]._asdict().items():
        if isinstance(value, Mapping):
            flat |= {f"{GROUPS}/{part}/{n}": tensor.numpy() for n, tensor in value.items()}
        else:
            flat[f"{GROUPS}/{part}"] = value.numpy()
    return flat


def prepare_step(case: Case, workload: Workload) -> tuple[dict[str, Any], Turn]:
    """Builds a model and takes two training steps."""
    import tensorflow as tf

    path = _write_condensed(case, workload) if case.condenses else case.data
    facts: dict[str, Any] = {}
    if case.counts_tensors:  # first, so that the memory of both processes is not needed at a time
        facts["tensors_mib"] = _in_own_process(_live_tensors, path, case, workload)
    batches = load_batches(path)
    start_time = time.perf_counter()
    model = _make_compiled(case, workload, batches[0])
    train_step = tf.function(model.train_step, autograph=False)
    train_step.get_concrete_function(batches[0])
    return_freed_memory()  # or the step would reuse it, and seem to need less
    before_mib = interleaving.resident_mib()  # tables, slots, batches and graphs
    loss = float(train_step(batches[0])["loss"])
    first_step = time.perf_counter() - start_time
    train_step(batches[-1])
    step_mib = interleaving.peak_mib() - before_mib

    def turn():
        return interleaving.rate(
            lambda number: train_step(batches[number % len(batches)]),
            case.users * case.candidates,
            case.seconds,
        )

    facts |= {"seconds_to_first_step": first_step, "first_loss": loss, "step_mib": step_mib}
    return {**facts, "parameters": model.count_params()}, turn


def _write_condensed(case: Case, workload: Workload) -> str:
    """Writes the case's batches as the model reads them; returns the file.

    A process of its own writes it: memory that TensorFlow keeps would be reused by the step, which
    would seem to need less.
    """
    path = str(_own_folder(case) / "condensed.npz")
    _in_own_process(_condense_to, path, case, workload)
    return path


def _in_own_process(function: Callable[..., Any], *args: Any) -> Any:
    spawn = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(1, spawn, end_with_parent) as pool:
        return pool.submit(function, *args).result()


def _live_tensors(path: str, case: Case, workload: Workload) -> float:
    """Peak size of the live tensors of a step, MiB."""
    live_tensors.report_allocations()
    import tensorflow as tf

    batches = load_batches(path)
    train_step = tf.function(_make_compiled(case, workload, batches[0]).train_step, autograph=False)
    train_step(batches[0])
    return live_tensors.peak_mib(lambda: float(train_step(batches[-1])["loss"]))


def _condense_to(path: str, case: Case, workload: Workload) -> None:
    import tensorflow as tf

    (transform,) = make_model(case, workload).input_transforms
    transform = tf.function(transform, autograph=False)
    batches = [_flatten(transform(batch)) for batch in load_batches(case.data)]
    arrays = {name: stack_padded([batch[name] for batch in batches]) for name in batches[0]}
    np.savez(path, allow_pickle=False, **arrays)


def prepare_fit(case: Case, workload: Workload) -> tuple[dict[str, Any], Turn]:
    """Builds a model and takes a few steps of an epoch; a turn is one epoch."""
    data, options = _records(case, workload)
    start_time = time.perf_counter()
    transforms = make_model(case, workload).input_transforms
    model = _make_compiled(
        case, workload, next(iter(data.training(options, workload.seed, 0, transforms)))
    )
    first_batches = data.training(options, workload.seed, 0, transforms).take(
        2 * case.steps_per_execution
    )
    model.fit(first_batches, verbose=0)
    first_step = time.perf_counter() - start_time
    steps = data.steps("train", options)
    epochs = iter(range(1, sys.maxsize))

    def turn():
        def epoch(_):
            model.fit(data.training(options, workload.seed, next(epochs), transforms), verbose=0)

        figures = interleaving.rate(epoch, steps * case.users * case.candidates, 0.0)
        return {**figures, "steps": steps, "cpu_ms": figures["cpu_ms"] / steps}

    return {"seconds_to_first_step": first_step}, turn


def prepare_score(case: Case, workload: Workload) -> tuple[dict[str, Any], Turn]:
    """Traces the request; a turn answers requests of changing users."""
    import tensorflow as tf

    from experiments.benchmarking.scoring import stored_answers

    requests = load_batches(case.data)
    model = make_model(case, workload)
    start_time = time.perf_counter()
    if case.has_state:
        answers = stored_answers(model, requests)

        def answer(number):
            return answers[number % len(answers)]()
    else:
        call = tf.function(lambda request: model(request)["logits"], autograph=False)

        def answer(number):
            return call(requests[number % len(requests)])

    answer(0)
    first = time.perf_counter() - start_time
    answer(1)
    return {"seconds_to_first_step": first}, _with_latencies(case, answer)


def prepare_request(case: Case, workload: Workload) -> tuple[dict[str, Any], Turn]:
    """Exports the model and fills its index or store; a turn answers requests of changing users."""
    from experiments.benchmarking.ranking_requests import USERS, Service, TimedWorkload

    settings = {**dataclasses.asdict(workload), "history": case.history}
    timed_workload = TimedWorkload(**settings)
    start_time = time.perf_counter()
    model = make_model(case, timed_workload)
    service = Service(model, case.model, timed_workload, pathlib.Path(case.data))
    requests = service.requests(8 * USERS, case.candidates)
    if case.kind == SERVICE:
        return _prepare_served(case, service, requests)

    def answer(number):
        return service.answer(*requests[number % len(requests)])

    for number in range(len(requests)):  # all of them once: allocators and caches warm up
        answer(number)
    facts = {"seconds_to_first_step": time.perf_counter() - start_time, "source": service.source}
    return facts, _with_latencies(case, answer)


def _prepare_served(case: Case, service: Any, requests: Any) -> tuple[dict[str, Any], Turn]:
    """Starts a service; a turn is a closed loop of its clients, by user or with histories."""
    from experiments.benchmarking.served_requests import ServedRequests

    bodies = []
    for user, items in requests:
        who = {"user_id": user}
        if not case.has_state:
            who = {"history": service.history(user), "context": {"user_id": user}}
        now = {"timestamp": [1_500_000_000] * len(items)}
        bodies.append(json.dumps({**who, "candidates": {"item_id": items.tolist(), **now}}))
    served = ServedRequests(case.model, service.export_dir, service.ranker)
    served.turn(bodies, case.users, case.seconds)  # allocators and caches warm up
    return {"source": service.source}, lambda: served.turn(bodies, case.users, case.seconds)


def prepare_condense(case: Case, workload: Workload) -> tuple[dict[str, Any], Turn]:
    """Transforms batches in memory, two at a time, as the pipeline does."""
    import tensorflow as tf

    batches = load_batches(case.data)
    (transform,) = make_model(case, workload).input_transforms
    transform = tf.function(transform, autograph=False)
    transform(batches[0])

    def turn():
        with concurrent.futures.ThreadPoolExecutor(2) as pool:
            figures = interleaving.rate(
                lambda _: list(pool.map(transform, batches)),
                len(batches) * case.users * case.candidates,
                case.seconds,
            )
        events = figures["rate"] / case.candidates * workload.history
        return {**figures, "events_per_second": events}

    return {}, turn


def prepare_read(case: Case, workload: Workload) -> tuple[dict[str, Any], Turn]:
    """Opens a data set; a turn is one epoch of it."""
    data, options = _records(case, workload)
    epochs = iter(range(sys.maxsize))
    steps = data.steps("train", options)

    def turn():
        def epoch(_):
            for _ in data.training(options, workload.seed, next(epochs)):
                pass

        figures = interleaving.rate(epoch, steps * case.users * case.candidates, 0.0)
        return {**figures, "steps": steps, "cpu_ms": figures["cpu_ms"] / steps}

    start_time = time.perf_counter()
    next(iter(data.training(options, workload.seed, 0)))
    facts = {"seconds_to_first_batch": time.perf_counter() - start_time}
    start_time = time.perf_counter()
    next(iter(data.training(options, workload.seed, 1)))
    return {**facts, "seconds_to_next_epoch": time.perf_counter() - start_time}, turn


def prepare_center(case: Case, workload: Workload) -> tuple[dict[str, Any], Turn]:
    """Exports a model and starts a center on it; a turn is batches of events, then single ones."""
    from dgin_tf.serving.center.dead_letters import DeadLetters
    from dgin_tf.serving.center.events import EventParser
    from dgin_tf.serving.center.interest_center import InterestCenter
    from dgin_tf.serving.center.state_updates import StateUpdater
    from dgin_tf.serving.center.user_states import UserStates
    from dgin_tf.stores.lmdb_store import LmdbStore

    path, version = _export_untrained(case, workload)
    start_time = time.perf_counter()
    updater = StateUpdater(version)
    states = UserStates(LmdbStore(path / "states"), updater.metadata)
    parser = EventParser(updater.schema, updater.catalogue)
    center = InterestCenter(updater, states, parser, DeadLetters(path / "letters"))
    events = _events(case.users, workload)
    center.apply(list(itertools.islice(events, case.candidates)))
    facts = {
        "seconds_to_first_step": time.perf_counter() - start_time,
        "state_bytes": updater.metadata["state_bytes"]["fixed"],
    }

    def turn():
        figures = interleaving.rate(
            lambda _: center.apply(list(itertools.islice(events, case.candidates))),
            case.candidates,
            case.seconds,
        )
        latencies = []
        for line in itertools.islice(events, _SINGLE_EVENTS):
            start_time = time.perf_counter()
            center.apply([line])
            latencies.append(1000 * (time.perf_counter() - start_time))
        p50, p99 = np.percentile(latencies, [50, 99])
        per_core = 1000 * case.candidates / figures["cpu_ms"]
        return {**figures, "rate_a_core": per_core, "p50_ms": float(p50), "p99_ms": float(p99)}

    return facts, turn


def prepare_extract(case: Case, workload: Workload) -> tuple[dict[str, Any], Turn]:
    """Builds a model, or exports it; a turn encodes all users.

    The rate is that after the first batch, which includes loading and compiling (`first_seconds`).
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
        path, version = _export_untrained(case, workload)
        bundle = BundleModel(version)
        metadata = bundle.metadata
        encode: Encode = functools.partial(bundle.run, ENCODE_USER)
    else:
        path = _own_folder(case)
        tf.keras.utils.set_random_seed(workload.seed)
        model = make_model(case, workload)
        options = BatchOptions(2, workload.history)
        model(next(iter(data.training(options, workload.seed, 0))))
        metadata, encode = model_metadata(model, case.model), model_encoder(model)
    users = RecordUsers(data, metadata, workload.history)

    def turn():
        start_time = time.process_time()
        with LmdbStore(path / f"states-{next(stores)}") as store:
            sink = UserStateSink(UserStates(store, metadata))
            report = encode_users(users, encode, sink, case.users)
        steps = -(-report.users // case.users)
        return {
            "rate": report.users_per_second,
            "steps": steps,
            "cpu_ms": 1000 * (time.process_time() - start_time) / steps,
            "users": report.users,
            "first_seconds": report.first.seconds,
            "seconds": report.seconds,
        }

    return {}, turn


PREPARE: dict[str, Callable[[Case, Workload], tuple[dict[str, Any], Turn]]] = {
    STEP: prepare_step,
    FIT: prepare_fit,
    SCORE: prepare_score,
    REQUEST: prepare_request,
    SERVICE: prepare_request,
    CONDENSE: prepare_condense,
    READ: prepare_read,
    CENTER: prepare_center,
    EXTRACT: prepare_extract,
    EXPORT: prepare_extract,
}


def _with_latencies(case, answer):
    """Returns a turn that answers requests one after the other."""

    def turn():
        latencies = []

        def step(number):
            start_time = time.perf_counter()
            answer(number)
            latencies.append(1000 * (time.perf_counter() - start_time))

        figures = interleaving.rate(step, case.users * case.candidates, case.seconds)
        p50, p99 = np.percentile(latencies, [50, 99])
        return {**figures, "p50_ms": float(p50), "p99_ms": float(p99)}

    return turn


def _own_folder(case: Case) -> pathlib.Path:
    """Creates a folder beside the case's data, which the end of the process removes."""
    folder = tempfile.mkdtemp(dir=os.path.dirname(case.data))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return pathlib.Path(folder)


def _export_untrained(case: Case, workload: Workload) -> tuple[pathlib.Path, pathlib.Path]:
    """Exports an untrained model; returns a folder of the process's own and the version in it."""
    import tensorflow as tf

    from dgin_tf.serving.export.bundle import Release, export_bundle

    path = _own_folder(case)
    tf.keras.utils.set_random_seed(workload.seed)
    release = Release(case.model, case.data, workload.history)
    return path, export_bundle(make_model(case, workload), release, path / "bundle")


def _events(users: int, workload: Workload) -> Iterator[bytes]:
    """Events of random users, as JSON with dense ids."""
    rng, sequences = np.random.default_rng(workload.seed), np.zeros(users, int)
    while True:
        indices = rng.integers(users, size=4096).tolist()
        items = workload.draw_items(rng, (4096,)).tolist()
        for user, item in zip(indices, items, strict=True):
            sequences[user] += 1
            event = {
                "user_id": FIRST_ID + user,
                "sequence": int(sequences[user]),
                "item_id": item,
            }
            yield json.dumps(event).encode()


def _records(case, workload):
    from dgin_tf.inputs.pipeline import BatchOptions, PreparedData

    negatives = UNIFORM if case.samples_negatives else "none"
    options = BatchOptions(case.users, workload.history, history_negatives=negatives)
    return PreparedData(case.data), options


def _make_compiled(case, workload, batch):
    import tensorflow as tf

    from dgin_tf.optimizers import rowwise_adam

    tf.keras.utils.set_random_seed(workload.seed)
    model = make_model(case, workload)
    model(batch)
    optimizer = rowwise_adam(model)
    model.compile(optimizer=optimizer, steps_per_execution=case.steps_per_execution)
    optimizer.build(model.trainable_variables)
    return model


def main(case: Case, workload: Workload) -> None:
    """Serves one case; see `interleaving`."""

    def prepare():
        facts, turn = PREPARE[case.kind](case, workload)
        import tensorflow as tf

        return {**facts, "tensorflow": tf.__version__}, turn

    interleaving.serve(prepare)


if __name__ == "__main__":
    main(Case(**json.loads(sys.argv[1])), Workload(**json.loads(sys.argv[2])))
