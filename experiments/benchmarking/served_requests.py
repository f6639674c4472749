"""A service in a thread of the benchmark's process, asked by clients in a process of their own."""

import asyncio
import json
import pathlib
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

from dgin_tf.serving.online.bundle_model import BundleModel
from dgin_tf.serving.online.functions import Functions, MergedFunctions
from dgin_tf.serving.online.http_server import HttpServer, loop_factory
from dgin_tf.serving.online.limits import Limits
from dgin_tf.serving.online.loaded_version import LoadedVersion
from dgin_tf.serving.online.predict_requests import warm_up
from dgin_tf.serving.online.ranker import Ranker
from dgin_tf.serving.online.rest import make_app
from dgin_tf.serving.online.served_model import ServedModel
from dgin_tf.serving.online.server_configs import METRICS_PATH
from dgin_tf.serving.online.service import Service

_MERGED_ROWS = 8  # as by default
_ROOT = pathlib.Path(__file__).resolve().parents[2]


class ServedRequests:
    """A service of an exported model on a free port of this machine.

    Args:
      name: of the model.
      export_dir: base path of its versions.
      make_ranker: makes the ranker of a loaded model.
    """

    def __init__(
        self, name: str, export_dir: pathlib.Path, make_ranker: Callable[[BundleModel], Ranker]
    ):
        def merge(functions: Functions) -> Functions:
            return MergedFunctions(functions, _MERGED_ROWS)

        def load(path: pathlib.Path) -> LoadedVersion:
            version = LoadedVersion(path, make_ranker, merge=merge)
            warm_up(version)
            return version

        self._service = Service(ServedModel(name, export_dir, load), Limits())
        self._port = 0
        started = threading.Event()
        threading.Thread(target=self._serve, args=(started,), daemon=True).start()
        started.wait()

    def turn(self, bodies: Sequence[str], clients: int, seconds: float) -> dict[str, Any]:
        """Figures of a closed loop.

        Raises:
          RuntimeError: a request was not answered, or not with 200.
        """
        task = {"port": self._port, "clients": clients, "seconds": seconds, "bodies": list(bodies)}
        start = time.process_time()
        result = subprocess.run(
            [sys.executable, "-m", "experiments.benchmarking.load_generator"],
            input=json.dumps(task),
            capture_output=True,
            text=True,
            cwd=_ROOT,
        )
        cpu_seconds = time.process_time() - start
        if result.returncode:
            raise RuntimeError(f"the clients failed: {result.stderr[-500:]}")
        figures = json.loads(result.stdout)
        if set(figures["statuses"]) != {"200"}:
            raise RuntimeError(f"not all requests were answered: {figures['statuses']}")
        # The requests of the warm-up are not counted, but cost the same.
        return {**figures, "cpu_ms": 1000 * cpu_seconds / figures["steps"] / 1.3}

    def _serve(self, started: threading.Event) -> None:
        async def serve() -> None:
            app = make_app(self._service, METRICS_PATH)
            server = HttpServer(app, ("127.0.0.1", 0), self._service.limits)
            task = asyncio.create_task(server.serve())
            while not server.started:
                await asyncio.sleep(0.01)
            self._port = server.port
            started.set()
            await task

        with asyncio.Runner(loop_factory=loop_factory()) as runner:
            runner.run(serve())
