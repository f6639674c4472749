"""Serves an exported model over HTTP and gRPC with the addresses and messages of TF Serving.

    python -m experiments.serve --export_dir=/tmp/dien --rest_port=8501
    curl -d @/tmp/dien/1/assets.extra/requests/serving_default.json \\
        http://127.0.0.1:8501/v1/models/dien:predict

With a behavior index (`experiments.build_index`) requests name the user by id alone:

    python -m experiments.serve --export_dir=/tmp/sim --index_dir=/tmp/index
    curl -d '{"user_id": 7, "candidates": [42, 43]}' http://127.0.0.1:8501/v1/models/sim_hard:rank

DGIN is served from its engine (UBPE): an index, statistics, and the groups that are cached of them:

    python -m experiments.serve --export_dir=/tmp/dgin --index_dir=/tmp/index \\
        --totals_store=lmdb:/tmp/totals --groups_store=lmdb:/tmp/groups
"""

import importlib.util
import sys
import threading

from absl import flags

from dgin_tf.commands import command_line
from experiments.running import store_flags

FLAGS = flags.FLAGS
flags.DEFINE_string("export_dir", None, "Base path of the exported versions.", required=True)
flags.DEFINE_string("model_name", "", "Name in the address; that of the export where empty.")
flags.DEFINE_string("host", "127.0.0.1", "Address to listen on; this machine alone by default.")
flags.DEFINE_integer("rest_port", 8501, "Port for HTTP; 0 for a free one.", 0, 65535)
flags.DEFINE_integer("grpc_port", -1, "Port for gRPC; 0 for a free one, -1 for none.", -1, 65535)
flags.DEFINE_string("index_dir", "", "Behavior index, for :rank requests that name a user.")
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
flags.DEFINE_float("poll_seconds", 5.0, "How often to look for a newer version.", 0.1)


def main(arguments):
    del arguments
    _check_flags()
    from dgin_tf.serving.export.versions import open_bundle
    from dgin_tf.serving.online import (
        service,  # TensorFlow takes seconds: after the flags were checked
    )

    if FLAGS.grpc_port >= 0 and importlib.util.find_spec("tensorflow_serving") is None:
        raise ValueError(
            "gRPC needs the package tensorflow-serving-api; pip install 'dgin_tf[serve]', or leave "
            "--grpc_port out to serve over HTTP alone."
        )
    name = FLAGS.model_name or open_bundle(FLAGS.export_dir)[1]["name"]
    index = _index()
    groups = store_flags.open_store(FLAGS.groups_store) if FLAGS.groups_store else None
    servable = service.Servable(name, FLAGS.export_dir, index, groups)
    stop = threading.Event()
    # A thread of its own loads newer versions, while requests go on with the old one.
    service.watch(servable, FLAGS.poll_seconds, stop)
    grpc_server = None
    if FLAGS.grpc_port >= 0:  # an optional dependency: imported only where it is used
        from dgin_tf.serving.online import grpc_service

        grpc_server, port = grpc_service.make_grpc_server(servable, FLAGS.host, FLAGS.grpc_port)
        grpc_server.start()
        _say(f"gRPC on {FLAGS.host}:{port}")
    with service.make_server(servable, FLAGS.host, FLAGS.rest_port) as server:
        address = f"http://{FLAGS.host}:{server.server_port}/v1/models/{name}"
        _say(f"version {servable.current.number} of {name} on {address}")
        try:
            server.serve_forever()
        finally:
            stop.set()  # on an interrupt too, so that requests in progress are answered
            if grpc_server is not None:
                grpc_server.stop(grace=1).wait()


def _check_flags():
    """Raises ValueError where one flag needs or forbids another."""
    if FLAGS.state_store and not FLAGS.index_dir:
        raise ValueError("--state_store holds what came after an index; give --index_dir too.")
    if FLAGS.totals_store and not FLAGS.index_dir:
        raise ValueError("--totals_store counts what an index lists; give --index_dir too.")
    if FLAGS.groups_store and not FLAGS.totals_store:
        raise ValueError("--groups_store holds what is made of totals; give --totals_store too.")


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


if __name__ == "__main__":
    command_line.run(main)
