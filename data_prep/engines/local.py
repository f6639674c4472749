"""Runs stages on one machine: a pool of processes, a progress bar, and a marker for every done task.

The engine knows nothing about data. A task is a function of one argument that writes its files whole
or not at all and returns a few JSON values; the engine keeps these values, and a task that has them
from an earlier run with the same key is not run again. What a stage returns is ordered by task, so
nothing depends on the number of workers.
"""

import concurrent.futures
import contextlib
import dataclasses
import json
import multiprocessing
import multiprocessing.connection
import os
import pathlib
import shutil
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import tqdm

from dgin_tf.commands.worker_processes import end_with_parent
from dgin_tf.ownership import LOCK_FILE, locked
from dgin_tf.schema import write_text

Result = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Task:
    """One unit of work.

    Attributes:
      function: called with `argument`, in any process; a module-level function.
      argument: picklable.
      weight: how far the progress bar moves.
    """

    function: Callable[[Any], Result]
    argument: Any
    weight: int = 1


class LocalEngine:
    """Runs tasks in `workers` processes (in this one if there is one worker).

    Args:
      folder: where markers and the tasks' own files live.
      workers: processes.
      progress: draws a progress bar on standard error.
    """

    def __init__(self, folder: str | os.PathLike, workers: int = 1, progress: bool = True):
        if workers < 1:
            raise ValueError(f"expected at least one worker, got {workers}.")
        self.folder = pathlib.Path(folder)
        self.workers = workers
        self.progress = progress
        self._pool: concurrent.futures.ProcessPoolExecutor | None = None

    @contextlib.contextmanager
    def session(self, key: str) -> Iterator[bool]:
        """Locks the folder, removes what another key left there, and stops the workers at the end.

        Yields:
          True if an earlier run with this key left anything to resume.

        Raises:
          ValueError: another preparation is using the folder.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        refusal = (
            f"another preparation is writing to {self.folder.parent}; wait for it, or give another "
            "--output_dir."
        )
        with locked(self.folder / LOCK_FILE, refusal):
            key_file = self.folder / "key"
            is_resumed = key_file.is_file() and key_file.read_text(encoding="utf-8") == key
            if not is_resumed:
                # Files of another key would be taken for results of this one.
                for entry in self.folder.iterdir():
                    if entry.is_dir():
                        shutil.rmtree(entry)
                    elif entry.name != LOCK_FILE:
                        entry.unlink()
            try:
                yield is_resumed
            finally:
                if self._pool is not None:
                    self._pool.shutdown(cancel_futures=True)
                    self._pool = None

    def begin(self, key: str) -> None:
        """Marks the folder as belonging to `key`; called when the results of other keys are gone."""
        write_text(self.folder / "key", key)

    def finish(self) -> None:
        """Removes markers and intermediate files; called inside a session that has succeeded."""
        shutil.rmtree(self.folder)

    def run(self, stage: str, tasks: Sequence[Task]) -> list[Result]:
        """Runs the tasks that are not done yet and returns every task's result, in the order of the tasks."""
        markers = self.folder / f"done-{stage}"
        markers.mkdir(exist_ok=True)
        paths = [markers / f"{number:05d}.json" for number in range(len(tasks))]
        # A marker holds the results of a task that an earlier run finished.
        open_tasks = [number for number, path in enumerate(paths) if _result(path) is None]
        with tqdm.tqdm(
            total=sum(task.weight for task in tasks),
            initial=sum(task.weight for task in tasks)
            - sum(tasks[number].weight for number in open_tasks),
            desc=stage,
            unit_scale=True,
            disable=not self.progress,
        ) as bar:
            for number, result in self._results(tasks, open_tasks):
                write_text(paths[number], json.dumps(result))
                bar.update(tasks[number].weight)
        return [_result(path) or {} for path in paths]

    def _results(
        self, tasks: Sequence[Task], numbers: Sequence[int]
    ) -> Iterator[tuple[int, Result]]:
        """Results as they come."""
        if self.workers == 1:
            for number in numbers:
                yield number, tasks[number].function(tasks[number].argument)
            return
        if self._pool is None:
            # Spawned, not forked: the caller may hold threads of TensorFlow or Arrow.
            self._pool = concurrent.futures.ProcessPoolExecutor(
                self.workers, multiprocessing.get_context("spawn"), initializer=end_with_parent
            )
        futures = {
            self._pool.submit(tasks[number].function, tasks[number].argument): number
            for number in numbers
        }
        try:
            for future in concurrent.futures.as_completed(futures):
                yield futures[future], future.result()
        except concurrent.futures.BrokenExecutor as error:
            raise OSError(
                "a worker process died, most often for want of memory; run the same command again "
                "with fewer --workers or a smaller --memory_mb."
            ) from error
        finally:
            for future in futures:
                future.cancel()


def _result(path: pathlib.Path) -> Result | None:
    """Result that a marker holds; None where there is no marker, or a damaged one."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return None
