"""A small model and tasks on small prepared data: enough to exercise the loop."""

import os
import sys

import tensorflow as tf

from dgin_tf.inputs.pipeline import BatchOptions, PreparedData
from dgin_tf.layers.interest_encoder import InterestEncoder
from dgin_tf.models.base import CTRModel, ModelConfig
from dgin_tf.optimizers import OPTIMIZERS
from dgin_tf.training import distribution
from dgin_tf.training.loop import LoopOptions, Task, train

BATCH = BatchOptions(batch_rows=10, max_history=31)
OPTIONS = LoopOptions(epochs=2, patience=0, evaluations_per_epoch=2)


class DroppedMean(InterestEncoder):
    """The mean past event, some of its channels dropped in training."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.dropout = tf.keras.layers.Dropout(0.2)

    def encode(self, history, training=False):
        count = tf.reduce_sum(tf.cast(history.mask, history.events.dtype), axis=1, keepdims=True)
        mean = tf.reduce_sum(history.events, axis=1) / tf.maximum(count, 1.0)
        return {"mean": self.dropout(mean, training=training)}

    def interest(self, state, target, training=False):
        return {"interest": state["mean"][:, None, :] * target.embedding}


class Tiny(CTRModel):
    """The mean past event times the candidate."""

    def __init__(self, schema, dim=3):
        config = ModelConfig(embedding_dim=dim, tower_units=(5,))
        super().__init__(schema, {"": DroppedMean()}, config)


class Undropped(Tiny):
    """Dropout draws another mask on every replica; without it runs can be compared."""

    def __init__(self, schema):
        super().__init__(schema)
        self.encoders[""].dropout.rate = 0.0


def make_task(data_dir, seed=1, optimizer="rowwise_adam", model=Tiny, replicas=1, **config):
    data = PreparedData(data_dir)
    return Task(
        make_model=lambda: model(data.schema, **config),
        make_optimizer=lambda model: OPTIMIZERS[optimizer](model, 0.02),
        training=lambda number, transforms=(): data.training(
            BATCH, seed, number, transforms, replicas
        ),
        evaluation=lambda split, transforms=(): data.evaluation(split, BATCH, transforms),
        schema=data.schema.fingerprint(),
        config={"seed": seed, "optimizer": optimizer, **config},
    )


def main(data_dir, run_dir):
    """What a test starts, kills and starts again."""
    train(make_task(data_dir), OPTIONS, run_dir)


def work(data_dir, run_dir):
    """What a test starts once for every worker of a cluster, with its TF_CONFIG."""
    strategy = distribution.make_strategy("multi_worker")
    train(make_task(data_dir, model=Undropped, replicas=2), OPTIONS, run_dir, strategy)


if __name__ == "__main__":
    work(*sys.argv[1:]) if "TF_CONFIG" in os.environ else main(*sys.argv[1:])
