"""Recall of an item of long ago, by a memory of a few slots and by a GRU of the same state size.

One event of a history is marked, somewhere among events that mean nothing, and after the last event
the model predicts its item. Training draws the marked event's distance from the end log-uniformly;
evaluation uses fixed distances, also beyond the length of training histories. With a nearest distance of
1 a model can learn from short distances first, and then extend them; with a far one all learning needs
gradients over long distances from the start. MIMN's memory by the paper's equations is compared with a
GRU whose state has as many floats, and with the authors' cell, which also has a running sum of all
writes.

    python -m experiments.mimn.copy_task --output_dir=D1 --seeds=3 --events=50
    python -m experiments.mimn.copy_task --output_dir=D2 --seeds=3 --events=200 --nearest=150

Writes `copy_task.json` and `copy_task.md` and prints the latter. Guessing gives one in `items`.
"""

import dataclasses
import json
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from absl import flags

from dgin_tf.commands import command_line
from dgin_tf.layers.memory.ntm import TuringMemory
from dgin_tf.layers.recurrent import GRU
from dgin_tf.ownership import claim
from dgin_tf.released.memory import ReleasedStep, ReleasedTuringMemory
from dgin_tf.schema import write_text
from experiments.running import runs

MODELS = ("memory", "released_memory", "gru")
LABELS = {
    "memory": "MIMN's memory",
    "released_memory": "MIMN's memory (released)",
    "gru": "GRU",
}


@dataclasses.dataclass(frozen=True)
class Task:
    """Sizes of the task and of its training.

    Attributes:
      items: number of distinct items; an event is a one-hot item and its mark.
      time: events of a history in training.
      nearest: distance of the marked event from the end in training, at least.
      distances: of evaluation; 1 is the last event. Histories are as long as in training, or as the
        distance where that is longer.
      slots, dim, units: of the memories; the GRU has as many units as their state has floats.
      batch: users in a batch.
      steps: of training.
      learning_rate: of Adam.
    """

    items: int = 8
    time: int = 200
    nearest: int = 1
    distances: tuple[int, ...] = (1, 10, 50, 100, 200, 500)
    slots: int = 4
    dim: int = 8
    units: int = 16
    batch: int = 32
    steps: int = 3_000
    learning_rate: float = 5e-3

    def __post_init__(self):
        if not 1 <= self.nearest <= self.time:
            raise ValueError(
                f"nearest must lie between 1 and the {self.time} events; got {self.nearest}."
            )

    def draw(self, rng: np.random.Generator, distance: int | None = None) -> tuple[Any, Any]:
        """Draws histories and the items to recall.

        Args:
          rng: draws items and, where `distance` is None, distances.
          distance: of the marked event from the end.

        Returns:
          Events [users, time, items + 1] and the marked item [users].
        """
        length = max(self.time, distance or 0)
        items = rng.integers(self.items, size=(self.batch, length))
        # nearest * ratio^u with u uniform is log-uniform.
        factor = ((length + 1) / self.nearest) ** rng.random(self.batch)
        places = length - np.floor(self.nearest * factor).astype(int)
        if distance is not None:
            places[:] = length - distance
        users = np.arange(self.batch)
        # [users, time, items + 1]; the last column is the mark.
        events = np.zeros((self.batch, length, self.items + 1), np.float32)
        np.put_along_axis(events, items[..., np.newaxis], 1.0, axis=-1)
        events[users, places, -1] = 1.0
        return events, items[users, places]


class Recall(tf.keras.Model):
    """A recurrent layer, and a linear layer from its whole last state to the items.

    Args:
      model: one of `MODELS`.
      task: the sizes.
    """

    def __init__(self, model: str, task: Task):
        super().__init__()
        self.is_gru = model == "gru"
        if self.is_gru:
            self.recurrent = GRU(state_floats(task))
        elif model == "released_memory":
            step = ReleasedStep(task.dim)
            self.recurrent = ReleasedTuringMemory(step, task.slots, task.units)
        else:
            self.recurrent = TuringMemory(task.slots, task.dim, task.units)
        self.head = tf.keras.layers.Dense(task.items)

    def call(self, events: tf.Tensor, training: bool = False) -> tf.Tensor:
        """Events [users, time, items + 1] -> logits [users, items]."""
        return self.head(self.last_state(events, training))

    def last_state(self, events: tf.Tensor, training: bool = False) -> tf.Tensor:
        """Whole state after the last event, [users, floats]."""
        if self.is_gru:
            return self.recurrent(events, training=training)[1]
        state = self.recurrent(events, training=training)[0]
        users = tf.shape(events)[0]
        # Sorted by name, so that the order does not depend on the cell.
        return tf.concat([tf.reshape(state[name], [users, -1]) for name in sorted(state)], -1)


def state_floats(task: Task) -> int:
    """Floats of the state of MIMN's memory: slots, their use, controller, last read."""
    return task.slots * task.dim + task.slots + task.units + task.dim


def train_and_evaluate(model: str, task: Task, seed: int, batches: int = 8) -> dict[str, Any]:
    """Trains a model and evaluates it at every distance.

    Args:
      model: one of `MODELS`.
      task: the sizes.
      seed: of weights and histories.
      batches: of the evaluation at each distance.

    Returns:
      `floats` of the state, `seconds` of training, last `loss`, and `accuracy` by distance.
    """
    tf.keras.utils.set_random_seed(seed)
    rng = np.random.default_rng(seed)  # training and evaluation draw fresh histories
    recall = Recall(model, task)
    optimizer = tf.keras.optimizers.legacy.Adam(task.learning_rate, clipnorm=1.0)

    @tf.function(autograph=False)
    def step(events, item):
        with tf.GradientTape() as tape:
            logits = recall(events, training=True)
            losses = tf.nn.sparse_softmax_cross_entropy_with_logits(item, logits)
            loss = tf.reduce_mean(losses)
        variables = recall.trainable_variables
        optimizer.apply_gradients(zip(tape.gradient(loss, variables), variables, strict=True))
        return loss

    predict = tf.function(lambda events: tf.argmax(recall(events), -1), autograph=False)
    floats = recall.last_state(task.draw(rng)[0]).shape[-1]  # creates the weights too
    start_time, loss = time.perf_counter(), tf.constant(np.nan)
    for _ in range(task.steps):
        loss = step(*map(tf.constant, task.draw(rng)))
    seconds = time.perf_counter() - start_time
    accuracy = {}
    for distance in task.distances:
        samples = [task.draw(rng, distance) for _ in range(batches)]
        is_right = [predict(tf.constant(events)).numpy() == item for events, item in samples]
        accuracy[str(distance)] = float(np.mean(is_right))
    return {"floats": floats, "seconds": seconds, "loss": float(loss), "accuracy": accuracy}


def markdown(result: Mapping[str, Any]) -> str:
    """Formats mean accuracies at every distance and their deviations over the seeds as Markdown."""
    task = result["task"]
    distances = [str(distance) for distance in task["distances"]]
    lines = [
        "# Recall of an item of long ago",
        "",
        f"{task['items']} items, trained on {task['time']} events, the marked one {task['nearest']} or "
        f"more from the end, {task['steps']} steps of {task['batch']}; {len(result['seeds'])} seeds; guessing gives {1 / task['items']:.3f}. "
        "Accuracy by the distance of the marked event from the end.",
        "",
        "| model | floats of state | " + " | ".join(distances) + " |",
        "|" + " --- |" * (2 + len(distances)),
    ]
    for model, entries in result["models"].items():
        cells = []
        for distance in distances:
            values = [entry["accuracy"][distance] for entry in entries]  # one a seed
            spread = f" ± {np.std(values, ddof=1):.3f}" if len(values) > 1 else ""
            cells.append(f"{np.mean(values):.3f}{spread}")
        lines.append(f"| {LABELS[model]} | {entries[0]['floats']} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def run(task: Task, models: Sequence[str], seeds: Sequence[int]) -> dict[str, Any]:
    """Trains and evaluates every model with every seed."""
    return {
        "task": dataclasses.asdict(task),
        "seeds": list(seeds),
        "models": {m: [train_and_evaluate(m, task, seed) for seed in seeds] for m in models},
        "machine": runs.machine(),
        "versions": runs.versions(),
    }


def define_flags(values: flags.FlagValues) -> None:
    """Adds the command's flags to `values`; not on import, since tests import this module."""
    flags.DEFINE_string("output_dir", None, "For the results.", flag_values=values, required=True)
    flags.DEFINE_integer("seeds", 3, "Trainings of each model.", lower_bound=1, flag_values=values)
    flags.DEFINE_integer("steps", Task.steps, "Of a training.", flag_values=values)
    flags.DEFINE_integer(
        "events", Task.time, "Of a history in training.", lower_bound=1, flag_values=values
    )
    flags.DEFINE_integer(
        "nearest", Task.nearest, "Distance of the marked event, at least.", flag_values=values
    )
    flags.DEFINE_multi_enum("models", list(MODELS), MODELS, "Models to train.", flag_values=values)


def main(_: object) -> None:
    """Runs the experiment and writes the report."""
    values = flags.FLAGS
    task = Task(time=values.events, nearest=values.nearest, steps=values.steps)
    names = ["copy_task.json", "copy_task.md"]
    output_dir = claim(values.output_dir, "results of the copy task", names)
    result = run(task, values.models, range(1, 1 + values.seeds))
    write_text(output_dir / "copy_task.json", json.dumps(result, indent=2) + "\n")
    write_text(output_dir / "copy_task.md", markdown(result))
    sys.stdout.write(markdown(result))


if __name__ == "__main__":
    define_flags(flags.FLAGS)
    command_line.run(main)
