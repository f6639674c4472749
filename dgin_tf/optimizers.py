"""Optimizers for models whose weights are mostly embedding tables.

A batch touches a few thousand rows of a table that may have millions. Keras's Adam sweeps the whole
table at every step all the same, because it lets the moments of the untouched rows decay; on a table
of 1M x 16 that is some forty times the work of updating the rows that were looked up. `RowwiseAdam`
updates those alone. Dense weights keep the ordinary Adam (Kingma & Ba, 2015), and
`PartitionedOptimizer` drives the two as one.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import tensorflow as tf
import tensorflow_recommenders as tfrs

from dgin_tf.ops.fast.sums import sum_slices
from dgin_tf.ops.tables import read_rows

LearningRate: TypeAlias = float | tf.keras.optimizers.schedules.LearningRateSchedule


@tf.keras.utils.register_keras_serializable("dgin_tf")
class RowwiseAdam(tf.keras.optimizers.Optimizer):
    """Adam that moves only the rows of a table that the batch looked up ("lazy" Adam).

    It differs from Adam: the moments of a row that is not in the batch do not decay and the row does not
    move, where Adam would decay both moments and keep moving the row by what is left of its
    momentum. Where every row is touched at every step the two agree. The bias correction counts the
    optimizer's steps, as in Adam, not the touches of a row: the first step of a row that turns up
    late is up to (1 - beta_1) / sqrt(1 - beta_2), about three, learning rates long in both.

    A gradient that is not sparse takes Adam's own step, so the optimizer may also be given a whole
    model. Repeated rows are summed before the moments see them. Weight decay and moving averages of
    the weights would sweep the table and are refused.

    Args:
      learning_rate: a number or a Keras schedule.
      beta_1: decay of the first moment.
      beta_2: decay of the second moment.
      epsilon: added to the root of the second moment (the paper's epsilon hat).
      name: name of the optimizer.
      **kwargs: the base class's options, such as `clipnorm`.

    Raises:
      ValueError: an option was given that rewrites the whole table at every step.
    """

    def __init__(
        self,
        learning_rate: LearningRate = 0.001,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-7,
        name: str = "RowwiseAdam",
        **kwargs: Any,
    ):
        table_wide = [option for option in ("weight_decay", "use_ema") if kwargs.get(option)]
        if table_wide:
            raise ValueError(
                f"RowwiseAdam expects no {' and no '.join(table_wide)}, which would rewrite the whole "
                "table at every step; use tf.keras.optimizers.Adam, or regularize the rows looked up."
            )
        # The base class's default weight_decay=0 is not None and would multiply the table by one;
        # compiling the step pays on no device, for the number of distinct rows changes every time.
        super().__init__(name=name, **{**kwargs, "weight_decay": None, "jit_compile": False})
        self._learning_rate = self._build_learning_rate(learning_rate)
        self.beta_1 = beta_1
        self.beta_2 = beta_2
        self.epsilon = epsilon

    def build(self, var_list: Sequence[tf.Variable]) -> None:
        """Creates the two moments of every variable, once."""
        super().build(var_list)
        if getattr(self, "_built", False):
            return
        self._first_moments = [self.add_variable_from_reference(v, "m") for v in var_list]
        self._second_moments = [self.add_variable_from_reference(v, "v") for v in var_list]
        self._built = True

    def update_step(self, gradient: tf.Tensor | tf.IndexedSlices, variable: tf.Variable) -> None:
        """Applies one gradient; of a sparse one the base class has already summed repeated rows."""
        index = self._index_dict[self._var_key(variable)]
        first, second = self._first_moments[index], self._second_moments[index]
        step = self._step_size(variable.dtype)
        # m += (1 - beta_1) (g - m) is beta_1 m + (1 - beta_1) g with one multiplication less.
        if not isinstance(gradient, tf.IndexedSlices):
            first.assign_add((gradient - first) * (1.0 - self.beta_1))
            second.assign_add((tf.square(gradient) - second) * (1.0 - self.beta_2))
            variable.assign_sub(step * first / (tf.sqrt(second) + self.epsilon))
            return
        rows, values = gradient.indices, gradient.values
        first_rows, second_rows = read_rows(first, rows), read_rows(second, rows)  # [rows, dim]
        first_rows += (values - first_rows) * (1.0 - self.beta_1)
        second_rows += (tf.square(values) - second_rows) * (1.0 - self.beta_2)
        change = step * first_rows / (tf.sqrt(second_rows) + self.epsilon)
        # Rows are distinct, see `_deduplicate_sparse_grad`, so that writing them in any order is safe.
        first.scatter_update(tf.IndexedSlices(first_rows, rows))
        second.scatter_update(tf.IndexedSlices(second_rows, rows))
        variable.scatter_sub(tf.IndexedSlices(change, rows))

    def _deduplicate_sparse_grad(
        self, gradients: Sequence[tf.Tensor | tf.IndexedSlices | None]
    ) -> list[tf.Tensor | tf.IndexedSlices | None]:
        """Sums repeated rows, in half the time that the base class's segment sum takes."""
        return [_sum_repeated(g) if isinstance(g, tf.IndexedSlices) else g for g in gradients]

    def _step_size(self, dtype: tf.DType) -> tf.Tensor:
        """Learning rate with both bias corrections folded in (end of the paper's section 2)."""
        count = tf.cast(self.iterations + 1, dtype)
        correction_1 = 1.0 - tf.pow(tf.cast(self.beta_1, dtype), count)
        correction_2 = 1.0 - tf.pow(tf.cast(self.beta_2, dtype), count)
        return tf.cast(self.learning_rate, dtype) * tf.sqrt(correction_2) / correction_1

    def get_config(self) -> dict[str, Any]:
        """Settings that make the same optimizer again, without its moments."""
        return {
            **super().get_config(),
            "learning_rate": self._serialize_hyperparameter(self._learning_rate),
            "beta_1": self.beta_1,
            "beta_2": self.beta_2,
            "epsilon": self.epsilon,
        }


def _sum_repeated(gradient: tf.IndexedSlices) -> tf.IndexedSlices:
    """Sums the slices of repeated rows, so that every row occurs once."""
    rows, row_index = tf.unique(gradient.indices)
    row_sums = sum_slices(gradient.values, row_index, tf.size(rows))
    return tf.IndexedSlices(row_sums, rows, gradient.dense_shape)


class PartitionedOptimizer(tfrs.experimental.optimizers.CompositeOptimizer):
    """Several optimizers, each with its own part of a model's variables.

    tensorflow-recommenders' `CompositeOptimizer` applies gradients and is checkpointed correctly, but
    next to optimizers of Keras 2.11 and later its `weights`, its `variables` and everything that asks
    for a learning rate raise AttributeError, and a `LossScaleOptimizer` cannot wrap it, because it
    returns no operation and creates its slots late. This class corrects that and nothing else.

    Args:
      parts: pairs of an optimizer and a function that returns its variables; no variable may be in
        two parts.
      name: name of the optimizer.
    """

    def __init__(
        self,
        parts: Sequence[tuple[Any, Callable[[], Sequence[tf.Variable]]]],
        name: str = "PartitionedOptimizer",
    ):
        super().__init__(parts, name=name)

    def build(self, var_list: Sequence[tf.Variable]) -> None:
        """Creates the slots of all parts, so that a checkpoint can be restored in full at once."""
        refs = {variable.ref() for variable in var_list}
        for optimizer, variables in self._optimizers_and_vars:
            with tf.name_scope(optimizer.name):
                optimizer.build([v for v in variables() if v.ref() in refs])

    def _create_all_weights(self, var_list: Sequence[tf.Variable]) -> None:
        self.build(var_list)  # LossScaleOptimizer calls it, ahead of its conditional

    def apply_gradients(self, *args: Any, **kwargs: Any) -> tf.Operation:
        """Gives every part its own gradients; arguments as in the base class."""
        super().apply_gradients(*args, **kwargs)
        return tf.no_op()

    @property
    def weights(self) -> list[tf.Variable]:
        """All variables of all parts: counters, learning rates' current values and moments."""
        return [variable for optimizer in self.optimizers for variable in optimizer.variables]

    @property
    def learning_rate(self) -> tf.Variable:
        """Learning rate of the first part; assigning sets it in every part."""
        return self.optimizers[0].learning_rate

    @learning_rate.setter
    def learning_rate(self, value: float) -> None:
        for optimizer in self.optimizers:
            optimizer.learning_rate = value

    lr = learning_rate  # the name by which Keras's callbacks set it

    def get_config(self) -> dict[str, Any]:
        """The parts' own configurations; which variables each has is the model's to say."""
        parts = [tf.keras.optimizers.serialize(optimizer) for optimizer in self.optimizers]
        return {"name": self._name, "parts": parts}


def rowwise_adam(
    model: tf.keras.Model, learning_rate: LearningRate = 0.001
) -> PartitionedOptimizer:
    """Row-wise Adam for the model's embedding tables and Adam for everything else.

    Args:
      model: a built model with `embedding_variables`, its tables, and `dense_variables`, the rest.
      learning_rate: of both, a number or a Keras schedule.
    """

    dense = tf.keras.optimizers.Adam(learning_rate, jit_compile=False)
    return tables_and_dense(model, RowwiseAdam(learning_rate), dense)


def tables_and_dense(model: tf.keras.Model, tables: Any, dense: Any) -> PartitionedOptimizer:
    """One optimizer for a model's embedding tables, another one for everything else.

    Args:
      model: has `embedding_variables` and `dense_variables`.
      tables: optimizer of the first.
      dense: optimizer of the second.
    """
    of_tables = (tables, lambda: list(model.embedding_variables))
    of_others = (dense, lambda: list(model.dense_variables))
    return PartitionedOptimizer([of_tables, of_others])


def restore_optimizer(model: tf.keras.Model, config: Any) -> Any:
    """The optimizer that a saved model was compiled with.

    Args:
      model: its variables are those to optimize.
      config: as `tf.keras.optimizers.serialize` gives it.
    """
    if isinstance(config, Mapping) and config["class_name"] == PartitionedOptimizer.__name__:
        parts = config["config"]["parts"]
        return tables_and_dense(model, *map(tf.keras.optimizers.deserialize, parts))
    return tf.keras.optimizers.get(config)


def dense_adam(
    model: tf.keras.Model, learning_rate: LearningRate = 0.001
) -> tf.keras.optimizers.Optimizer:
    """Adam on every weight, which sweeps the tables at every step: the papers' optimizer, slower."""
    # All optimizers of `OPTIMIZERS` are called alike
    return tf.keras.optimizers.Adam(learning_rate, jit_compile=False)


OPTIMIZERS: dict[str, Callable[..., Any]] = {"rowwise_adam": rowwise_adam, "adam": dense_adam}
