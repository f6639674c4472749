"""A stop of `model.fit` where a loss is not finite."""

import numpy as np
import tensorflow as tf

CURVES = "tensorboard"  # folder in a run's directory
_MAX_NAMES = 3  # of broken weights in a message


class DivergenceError(ValueError):
    """A loss is no longer a finite number."""


class StopOnNan(tf.keras.callbacks.Callback):
    """Stops a run whose loss is NaN or infinite, before a checkpoint saves the broken weights.

    Args:
      finished_steps: steps taken before this call of `fit`.
    """

    _supports_tf_logs = True  # or Keras copies every metric to numpy after every step

    def __init__(self, finished_steps: int = 0):
        super().__init__()
        self.finished_steps = finished_steps

    def on_train_batch_end(self, batch, logs=None):
        """Raises DivergenceError, which names the step, the loss and the weights that are not finite."""
        if np.isfinite(float(logs["loss"])):
            return
        values = {name: float(value) for name, value in logs.items()}
        broken = [name for name, value in values.items() if not np.isfinite(value)]
        # The total is broken whenever a part of it is; the part says more.
        name = next((name for name in broken if name != "loss"), "loss")
        raise DivergenceError(
            f"the {name} loss became {values[name]} at step {self.finished_steps + batch + 1}; expected "
            "finite losses. Lower the learning rate, or look for damaged inputs in that batch."
            f"{_broken_weights(self.model)}"
        )


def _broken_weights(model: tf.keras.Model) -> str:
    """Sentence that names the weights with a NaN or an infinity; embeddings come first."""
    names = [v.name for v in model.trainable_variables if not np.all(np.isfinite(v.numpy()))]
    if not names:
        return ""
    more = f" and {len(names) - _MAX_NAMES} more" if len(names) > _MAX_NAMES else ""
    return f" Weights that are no numbers: {', '.join(names[:_MAX_NAMES])}{more}."
