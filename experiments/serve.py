"""Serves an exported model over HTTP and gRPC with the addresses and messages of TF Serving, and ranks by user.

    python -m experiments.serve --export_dir=/tmp/dien --rest_port=8501
    curl -d @/tmp/dien/1/assets.extra/requests/serving_default.json \\
        http://127.0.0.1:8501/v1/models/dien:predict

With the states of an interest center, or of experiments.extract_interests, requests name the user by id
alone; --take_events folds in what users do:

    python -m experiments.serve --export_dir=/tmp/mimn --user_states=lmdb:/tmp/states --take_events
    curl -d '{"user_id": "u7", "candidates": ["i42", "i43"], "raw_ids": true}' http://127.0.0.1:8501/rank

With a behavior index (`experiments.build_index`) the history is searched at the request:

    python -m experiments.serve --export_dir=/tmp/sim --index_dir=/tmp/index

DGIN is served from its engine (UBPE): an index, statistics, and the groups that are cached of them:

    python -m experiments.serve --export_dir=/tmp/dgin --index_dir=/tmp/index \\
        --totals_store=lmdb:/tmp/totals --groups_store=lmdb:/tmp/groups

--model_config_file names a config of TF Serving, whose versions and labels are followed while requests go
on. SIGTERM ends the service after the requests in flight.
"""

import asyncio
import contextlib
import importlib.util
import pathlib
import re
import resource
import signal
import sys
import threading

from absl import flags

from dgin_tf.commands import command_line
from experiments.running import store_flags

FLAGS = flags.FLAGS
flags.adopt_module_key_flags(store_flags)
flags.DEFINE_string("export_dir", None, "Base path of the exported versions.", required=True)
flags.DEFINE_string("model_name", "", "Name in the address; that of the export where empty.")
flags.DEFINE_string("host", "127.0.0.1", "Address to listen on; this machine alone by default.")
flags.DEFINE_integer("rest_port", 8501, "Port for HTTP; 0 for a free one.", 0, 65535)
flags.DEFINE_integer("grpc_port", -1, "Port for gRPC; 0 for a free one, -1 for none.", -1, 65535)
flags.DEFINE_string("index_dir", "", "Behavior index, for requests that name a user.")
flags.DEFINE_string(
    "user_states",
    "",
    "Store of users' states, as experiments.interest_center and experiments.extract_interests write them: "
    f"{store_flags.STORES}.",
)
flags.DEFINE_string(
    "state_store",
    "",
    "Store of events that came after the index was built, for models without cached groups: "
    f"{store_flags.STORES}.",
)
flags.DEFINE_string(
    "groups_store",
    "",
    "Cached groups of users, as experiments.keep_groups computes them: "
    f"{store_flags.STORES}. In memory where empty.",
)
flags.DEFINE_boolean(
    "take_events",
    False,
    "Take events at /events: into --user_states, --state_store or --totals_store.",
)
flags.DEFINE_string(
    "tf_serving",
    "",
    "Address of a TF Serving that computes: grpc://host:port or http://host:port. In this process where empty.",
)
flags.DEFINE_float("tf_serving_seconds", 2.0, "Deadline of a call of TF Serving.", 0.01)
flags.DEFINE_string(
    "model_config_file",
    "",
    "Config of TF Serving with versions and labels; the newest version alone where empty.",
)
flags.DEFINE_float("poll_seconds", 5.0, "How often to look for newer versions and labels.", 0.1)
flags.DEFINE_string(
    "token_file", "", "File of the bearer token that requests must carry; none where empty."
)
flags.DEFINE_string("tls_certificate", "", "PEM file of the certificate; plain HTTP where empty.")
flags.DEFINE_string("tls_key", "", "PEM file of its key.")
flags.DEFINE_integer("max_body_bytes", 4 << 20, "Largest body of a request.", 1024)
flags.DEFINE_integer("max_candidates", 5_000, "Most candidates of a user.", 1)
flags.DEFINE_integer("max_connections", 4_096, "Most connections at a time.", 1)
flags.DEFINE_integer("max_queue", 256, "Most requests that wait; further ones get 429.", 0)
flags.DEFINE_integer("threads", 8, "Threads that answer requests.", 1)
flags.DEFINE_integer("max_batch_rows", 8, "Most users of a merged call; 1 merges none.", 1)
flags.DEFINE_float("batch_timeout_ms", 0.0, "How long a call waits for others to merge.", 0.0)
flags.DEFINE_float("request_seconds", 10.0, "Within which a request is answered.", 0.01)
flags.DEFINE_float("read_seconds", 10.0, "Within which a request has to arrive.", 0.01)
flags.DEFINE_float("idle_seconds", 75.0, "For which an unused connection stays open.", 1.0)
flags.DEFINE_float("grace_seconds", 20.0, "For requests in flight at the end.", 0.0)

_PACKAGES = ("fastapi", "uvicorn", "prometheus_client", "grpc", "tensorflow_serving", "grpc_health")
_FEWEST_FILES = 256  # that the process needs beside its connections


def main(arguments):
    del arguments
    _check_flags()
    token = _token()
    from dgin_tf.serving.online.limits import Limits

    limits = Limits(
        body_bytes=FLAGS.max_body_bytes,
        candidates=FLAGS.max_candidates,
        request_seconds=FLAGS.request_seconds,
        read_seconds=FLAGS.read_seconds,
        idle_seconds=FLAGS.idle_seconds,
        connections=_connections(),
        threads=FLAGS.threads,
        queue=FLAGS.max_queue,
    )
    service = _service(limits)
    stop = threading.Event()
    # A thread of its own loads newer versions, while requests go on with the old ones.
    from dgin_tf.serving.online.http_server import loop_factory
    from dgin_tf.serving.online.served_model import watch

    watch(service.model, FLAGS.poll_seconds, stop, _complain)
    try:
        with asyncio.Runner(loop_factory=loop_factory()) as runner:
            interrupted = runner.run(_serve(service, token))
    finally:
        stop.set()
        service.close()
    if interrupted:
        raise KeyboardInterrupt


async def _serve(service, token) -> bool:
    """Serves until a signal; True for Ctrl-C."""
    from dgin_tf.serving.online.http_server import HttpServer
    from dgin_tf.serving.online.rest import make_app
    from dgin_tf.serving.online.server_configs import MONITORING_CONFIG, read_metrics_path

    tls = (FLAGS.tls_certificate, FLAGS.tls_key) if FLAGS.tls_certificate else None
    metrics_path = read_metrics_path(pathlib.Path(FLAGS.export_dir) / MONITORING_CONFIG)
    gate = make_app(service, metrics_path, token, _complain)

    def reject(reason):
        service.metrics.rejected.labels(reason).inc()

    server = HttpServer(gate, (FLAGS.host, FLAGS.rest_port), service.limits, tls, reject)
    server.grace_seconds = FLAGS.grace_seconds
    grpc_server = None
    if FLAGS.grpc_port >= 0:
        from dgin_tf.serving.online.grpc_service import GrpcServer

        grpc_server = GrpcServer(service, (FLAGS.host, FLAGS.grpc_port), token, tls, _complain)
    signals: list[int] = []

    def end(number):
        signals.append(number)
        server.should_exit = True

    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, end, number)

    def drain():
        service.is_ready, gate.is_draining = False, True

    server.drain = drain
    serving = asyncio.create_task(server.serve())
    while not server.started and not serving.done():
        await asyncio.sleep(0.01)
    if serving.done():
        await serving
    if grpc_server is not None:
        await grpc_server.start()
        _say(f"gRPC on {FLAGS.host}:{grpc_server.port}")
    if not token and FLAGS.host not in ("127.0.0.1", "localhost", "::1"):
        _complain(f"listening on {FLAGS.host} without --token_file: everybody there may ask.")
    model = service.model
    address = f"{'https' if tls else 'http'}://{FLAGS.host}:{server.port}/v1/models/{model.name}"
    _say(f"version {model.current.number} of {model.name} on {address}")
    if grpc_server is None:
        await serving
    else:
        while not server.should_exit and not serving.done():
            await asyncio.sleep(0.05)
        await grpc_server.drain()
        await asyncio.gather(serving, grpc_server.stop(FLAGS.grace_seconds))
    return signal.SIGINT in signals


def _service(limits):
    """The service of the flags, with at least one version loaded and warmed up."""
    from dgin_tf.serving.export.versions import open_bundle

    name = FLAGS.model_name or open_bundle(FLAGS.export_dir)[1]["name"]
    # TensorFlow takes seconds: after the flags were checked.
    from dgin_tf.serving.online import loaded_version, predict_requests, served_model
    from dgin_tf.serving.online.functions import LocalFunctions, MergedFunctions
    from dgin_tf.serving.online.ranker import Ranker
    from dgin_tf.serving.online.server_configs import read_rollout
    from dgin_tf.serving.online.service import Service

    index = _index()
    states = None
    if address := FLAGS.user_states or FLAGS.groups_store:
        states = store_flags.open_store(address)
    load_functions = LocalFunctions.load
    if FLAGS.tf_serving:
        from dgin_tf.serving.online.remote_functions import connect

        def load_functions(path):
            return connect(FLAGS.tf_serving, name, open_bundle(path)[1], FLAGS.tf_serving_seconds)

    batches = _Batches()

    def merge(functions):
        wait = FLAGS.batch_timeout_ms / 1e3
        return MergedFunctions(functions, FLAGS.max_batch_rows, wait, on_batch=batches)

    def load(path):
        version = loaded_version.LoadedVersion(
            path, lambda model: Ranker(model, index, states), load_functions, merge
        )
        if FLAGS.take_events:
            version.events = _sink(version, index, states)
        predict_requests.warm_up(version)
        return version

    def rollout():
        if FLAGS.model_config_file:
            return read_rollout(FLAGS.model_config_file, name)
        return served_model.Rollout()

    choose: served_model.Choose = served_model.newest
    if FLAGS.user_states and states is not None:
        choose = served_model.live_states(states, name)
    model = served_model.ServedModel(name, FLAGS.export_dir, load, rollout, choose, _complain)
    intake = None
    if FLAGS.take_events:
        from dgin_tf.serving.online.event_intake import EventIntake

        intake = EventIntake(lambda: _sinks(model, index))
    service = Service(model, limits, intake)
    batches.observe = service.metrics.batch_rows.observe
    return service


class _Batches:
    """Passes on sizes of batches, once there is somebody who counts them."""

    def __init__(self):
        self.observe = lambda rows: None

    def __call__(self, rows):
        self.observe(rows)


def _sink(version, index, states):
    from dgin_tf.serving.online.event_intake import CenterSink, IndexSink

    if index is not None:
        return IndexSink(version.ranker.model, index)
    return CenterSink(version.path, states)


def _sinks(model, index):
    """Where events go: into the states of every version, or into the one index."""
    return [model.current.events] if index is not None else [v.events for v in model.versions]


def _check_flags():
    """Raises ValueError where one flag needs or forbids another."""
    if missing := [name for name in _PACKAGES if importlib.util.find_spec(name) is None]:
        raise ValueError(
            f"serving needs the packages {', '.join(missing)}; pip install 'dgin_tf[serve]'."
        )
    if FLAGS.state_store and not FLAGS.index_dir:
        raise ValueError(
            "--state_store holds what came after an index; give --index_dir too, or name a store of users' "
            "states by --user_states."
        )
    if FLAGS.totals_store and not FLAGS.index_dir:
        raise ValueError("--totals_store counts what an index lists; give --index_dir too.")
    if FLAGS.groups_store and not FLAGS.totals_store:
        raise ValueError("--groups_store holds what is made of totals; give --totals_store too.")
    if FLAGS.user_states and FLAGS.index_dir:
        raise ValueError(
            "--user_states and --index_dir are two sources of the same; give the one that the model reads."
        )
    if FLAGS.take_events and not (FLAGS.user_states or FLAGS.state_store or FLAGS.totals_store):
        raise ValueError(
            "--take_events needs a place for events: --user_states, or --index_dir with --state_store or "
            "--totals_store."
        )
    if FLAGS.tf_serving and not re.fullmatch(r"(grpc|https?)://[^/\s]+", FLAGS.tf_serving):
        raise ValueError(
            f"--tf_serving needs grpc://host:port or http://host:port; got {FLAGS.tf_serving!r}."
        )
    if bool(FLAGS.tls_certificate) != bool(FLAGS.tls_key):
        raise ValueError("TLS needs both --tls_certificate and --tls_key.")
    for name in ("tls_certificate", "tls_key", "model_config_file"):
        path = FLAGS[name].value
        if path and not pathlib.Path(path).is_file():
            raise ValueError(f"--{name}={path} is no file.")


def _token():
    """The bearer token of the file, "" for none."""
    if not FLAGS.token_file:
        return ""
    token = pathlib.Path(FLAGS.token_file).read_text(encoding="utf-8").strip()
    if not token or not token.isascii() or not token.isprintable() or " " in token:
        raise ValueError(f"expected one token of printable ASCII characters in {FLAGS.token_file}.")
    return token


def _connections():
    """Connections that the process may have, after its limit of open files was raised as far as it can be."""
    wanted = FLAGS.max_connections + _FEWEST_FILES
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        soft = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        return max(min(FLAGS.max_connections, soft - _FEWEST_FILES), 1)
    return FLAGS.max_connections


def _index():
    """The index or engine of the flags, as the newest version's schema has it; None for none."""
    from dgin_tf.schema import Schema
    from dgin_tf.serving.export.versions import ASSETS, open_bundle

    if not FLAGS.index_dir:
        return None
    late = store_flags.open_late_events(FLAGS.state_store) if FLAGS.state_store else None
    schema = Schema.load(open_bundle(FLAGS.export_dir)[0] / ASSETS)
    return store_flags.open_index(FLAGS.index_dir, schema, late)


def _say(line):
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def _complain(line):
    sys.stderr.write(line.rstrip("\n") + "\n")
    sys.stderr.flush()


if __name__ == "__main__":
    command_line.run(main)
