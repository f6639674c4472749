"""A server of the page on an address of this machine."""

import errno
import socketserver
import sys
from collections.abc import Mapping

import uvicorn

from dgin_tf.inputs.pipeline import PreparedData
from experiments.exploring.app import make_app
from experiments.exploring.explorer import ExploredModel, Explorer
from experiments.running import runs


def load_explorer(data_dir: str, model_dirs: Mapping[str, str], split: str) -> Explorer:
    """Loads runs, each with its best weights.

    Args:
      data_dir: prepared data, of the schema of the runs.
      model_dirs: name of a model -> a run, or a model directory, whose first seed is taken.
      split: whose users are shown.

    Raises:
      FileNotFoundError: there are no such data, or no such run.
      ValueError: a run belongs to another schema, or the data have no such split.
    """
    data = PreparedData(data_dir)
    models = {}
    for name, path in model_dirs.items():
        model, config = runs.load_model(path, data)
        models[name] = ExploredModel(model, config["data"]["max_history"])
    return Explorer(data, models, split)


def serve(explorer: Explorer, host: str, port: int) -> None:
    """Serves the page until it is interrupted, and prints its address when it can be opened.

    Args:
      explorer: answers.
      host: address to listen on.
      port: 0 for a free one.

    Raises:
      OSError: the port cannot be listened on.
    """
    with listen(host, port) as listener:
        config = uvicorn.Config(make_app(explorer), log_level="warning")
        sys.stdout.write(f"explore on http://{host}:{listener.server_address[1]}\n")
        sys.stdout.flush()
        uvicorn.Server(config).run(sockets=[listener.socket])


def listen(host: str, port: int) -> socketserver.TCPServer:
    """Binds a port, which uvicorn does too, but not with an error of one sentence; see `serve`."""
    try:
        return _Listener((host, port), socketserver.BaseRequestHandler)
    except OSError as error:
        if error.errno != errno.EADDRINUSE:
            raise
        raise OSError(
            f"port {port} of {host} is in use; give another --port, or 0 for a free one."
        ) from error


class _Listener(socketserver.TCPServer):
    allow_reuse_address = True  # after a server that has just ended, as servers usually do
