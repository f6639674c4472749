"""Serves an exported model over HTTP (and gRPC) with the addresses and messages of TF Serving.

    python -m experiments.serve --export_dir=/tmp/dien --rest_port=8501
    curl -d @/tmp/dien/1/assets.extra/requests/serving_default.json \\
        http://127.0.0.1:8501/v1/models/dien:predict

With a behaviour index (`experiments.build_index`) people are ranked for by their ids alone:

    python -m experiments.serve --export_dir=/tmp/sim --index_dir=/tmp/index
    curl -d '{"user_id": 7, "candidates": [42, 43]}' http://127.0.0.1:8501/v1/models/sim_hard:rank
"""

import importlib.util
import sys
import threading

from absl import flags

from dgin_tf import command_line

LATE_EVENTS = "behaviors"  # namespace within --state_store

FLAGS = flags.FLAGS
flags.DEFINE_string("export_dir", None, "Base path of the exported versions.", required=True)
flags.DEFINE_string("model_name", "", "Name in the address; that of the export where empty.")
flags.DEFINE_string("host", "127.0.0.1", "Address to listen on; this machine alone by default.")
flags.DEFINE_integer("rest_port", 8501, "Port for HTTP; 0 for a free one.", 0, 65535)
flags.DEFINE_integer("grpc_port", -1, "Port for gRPC; 0 for a free one, -1 for none.", -1, 65535)
flags.DEFINE_string("index_dir", "", "Behaviour index, for :rank requests that name a person.")
flags.DEFINE_string(
    "state_store",
    "",
    "Store of events that came after the index was built, such as lmdb:PATH or "
    "redis://host:port/db?prefix=NAME.",
)
flags.DEFINE_float("poll_seconds", 5.0, "How often to look for a newer version.", 0.1)


def main(arguments):
    del arguments
    from dgin_tf.serving import service  # TensorFlow takes seconds: after the flags were checked
    from dgin_tf.serving.ranker import open_bundle

    if FLAGS.grpc_port >= 0 and importlib.util.find_spec("tensorflow_serving") is None:
        raise ValueError(
            "gRPC needs the package tensorflow-serving-api; pip install 'dgin_tf[serve]', or leave "
            "--grpc_port out to serve over HTTP alone."
        )
    name = FLAGS.model_name or open_bundle(FLAGS.export_dir)[1]["name"]
    servable = service.Servable(name, FLAGS.export_dir, _index())
    stop = threading.Event()
    service.watch(servable, FLAGS.poll_seconds, stop)
    grpc_server = None
    if FLAGS.grpc_port >= 0:
        from dgin_tf.serving import grpc_service

        grpc_server, port = grpc_service.make_grpc_server(servable, FLAGS.host, FLAGS.grpc_port)
        grpc_server.start()
        _say(f"gRPC on {FLAGS.host}:{port}")
    with service.make_server(servable, FLAGS.host, FLAGS.rest_port) as server:
        address = f"http://{FLAGS.host}:{server.server_port}/v1/models/{name}"
        _say(f"version {servable.current.number} of {name} on {address}")
        try:
            server.serve_forever()
        finally:
            stop.set()
            if grpc_server is not None:
                grpc_server.stop(grace=1).wait()


def _index():
    """The behaviour index of the flags, as the newest version's schema has it; None for none."""
    from dgin_tf.schema import Schema
    from dgin_tf.serving.bundle import ASSETS
    from dgin_tf.serving.ranker import open_bundle
    from dgin_tf.stores.addresses import open_store
    from dgin_tf.stores.behavior_index import BehaviorIndex, IndexMetadata

    if not FLAGS.index_dir:
        if FLAGS.state_store:
            raise ValueError("--state_store holds what came after an index; give --index_dir too.")
        return None
    late = open_store(FLAGS.state_store, LATE_EVENTS) if FLAGS.state_store else None
    schema = Schema.load(open_bundle(FLAGS.export_dir)[0] / ASSETS)
    key = IndexMetadata.load(FLAGS.index_dir).key  # whether the model needs it is checked later
    return BehaviorIndex(FLAGS.index_dir, schema, key, late)


def _say(line):
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    command_line.run(main)
