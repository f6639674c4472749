"""Base class of the package's layers: the configuration is the constructor's arguments."""

import dataclasses
import inspect
from collections.abc import Mapping, Sequence
from typing import Any

import tensorflow as tf


class ConfiguredLayer(tf.keras.layers.Layer):
    """Layer that stores each argument of its constructor under the argument's name.

    `get_config` collects them; arguments that go on to a base class as keywords are among them.

    Example:

      >>> class Scale(ConfiguredLayer):
      ...   def __init__(self, factor=2.0, **kwargs):
      ...     super().__init__(**kwargs)
      ...     self.factor = factor
      >>> Scale(3.0).get_config()["factor"]
      3.0
    """

    def __init_subclass__(cls, **kwargs: Any):
        super().__init_subclass__(**kwargs)
        register(cls)

    def add_float_weight(
        self, name: str, shape: Sequence[int], initializer: Any, **kwargs: Any
    ) -> tf.Variable:
        """Adds a weight that stays float32 under a half-precision policy."""
        return self.add_weight(
            name, shape, initializer=initializer, experimental_autocast=False, **kwargs
        )

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments.

        Raises:
          NotImplementedError: an argument is not stored and the class has no `get_config` of its own.
        """
        config = super().get_config()
        for name in sorted(_arguments(type(self)) - set(config)):
            if hasattr(self, name):
                config[name] = as_config(getattr(self, name))
            elif type(self).get_config is ConfiguredLayer.get_config:
                raise NotImplementedError(
                    f"{type(self).__name__} must store its argument {name!r} under this name, or "
                    "override get_config."
                )
        return config


def register(cls: type) -> None:
    """Registers a class of this package with Keras, which saves it as `dgin_tf>Name`.

    Subclasses elsewhere are registered by their own authors, as all classes of Keras users.
    """
    if cls.__module__.startswith("dgin_tf."):
        tf.keras.utils.register_keras_serializable("dgin_tf")(cls)


def as_config(value: Any) -> Any:
    """Plain values of an argument: layers, initializers and dataclasses, alone or nested, as dicts."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return dataclasses.asdict(value)
    if isinstance(value, list | tuple):  # named ones may be callable
        return tuple(map(as_config, value))
    if callable(value):  # layers, initializers, regularizers and functions that stand for them
        return tf.keras.utils.serialize_keras_object(value)
    # Keras wraps the dicts and lists that layers hold; JSON and comparisons want plain ones.
    if isinstance(value, Mapping):
        return {name: as_config(part) for name, part in value.items()}
    return value


def as_layer(layer: Any, kind: type = tf.keras.layers.Layer) -> Any:
    """A layer from its configuration; layers and None unchanged.

    Raises:
      TypeError: it is no layer of that kind.
    """
    layer = tf.keras.layers.deserialize(layer) if isinstance(layer, dict) else layer
    if not isinstance(layer, kind | None):
        raise TypeError(
            f"expected an instance of {kind.__name__} or its configuration; got {layer!r}."
        )
    return layer


class KernelLayer(ConfiguredLayer):
    """Layer of kernels that start by one initializer and are penalized by one regularizer.

    Args:
      kernel_initializer, kernel_regularizer: as of Keras's layers.

    Example:

      >>> layer = KernelLayer(kernel_initializer="ones", kernel_regularizer="l2")
      >>> layer.add_kernel("kernel", [2, 3]).shape, len(layer.losses)
      (TensorShape([2, 3]), 1)
    """

    def __init__(
        self,
        kernel_initializer: Any = "glorot_uniform",
        kernel_regularizer: Any = None,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.kernel_initializer = tf.keras.initializers.get(kernel_initializer)
        self.kernel_regularizer = tf.keras.regularizers.get(kernel_regularizer)

    @property
    def kernel_config(self) -> dict[str, Any]:
        """Arguments of an inner layer of kernels."""
        return {
            "kernel_initializer": copy_initializer(self.kernel_initializer),
            "kernel_regularizer": self.kernel_regularizer,
        }

    def add_kernel(
        self, name: str, shape: Sequence[int], similar_to: Any = None, **kwargs: Any
    ) -> tf.Variable:
        """Adds a kernel.

        Of two kernels whose product is a score, the second starts as the first: (W_k e') . (W_q e) is
        then a similarity of e' and e, the more so the larger the embeddings are. From two independent
        matrices it is a random bilinear form, and where only what scores high is read, nothing corrects
        it (BUILD_NOTES.md).

        Args:
          name: of the variable.
          shape: [rows, width].
          similar_to: the other kernel of a score, [other rows, width], whose rows this one starts with.
        """
        initializer = copy_initializer(self.kernel_initializer)
        if similar_to is not None:
            initializer = TiedRows(similar_to, initializer)
        return self.add_weight(
            name, shape, initializer=initializer, regularizer=self.kernel_regularizer, **kwargs
        )


class TiedRows(tf.keras.initializers.Initializer):
    """An initializer but for first rows, which are copied from another matrix.

    Args:
      rows: [rows, width]; of more rows than the weight has, the first ones.
      initializer: of the rows beyond them; Glorot's by default.

    Example:

      >>> kernel = TiedRows(tf.ones([2, 3]))([4, 3])
      >>> kernel[:2].numpy().tolist()
      [[1.0, 1.0, 1.0], [1.0, 1.0, 1.0]]
    """

    def __init__(self, rows: tf.Tensor, initializer: Any = "glorot_uniform"):
        self.rows = rows
        self.initializer = copy_initializer(initializer)

    def __call__(self, shape: Any, dtype: Any = None, **kwargs: Any) -> tf.Tensor:
        kernel = self.initializer(shape, dtype)
        rows = tf.cast(self.rows[: shape[0]], kernel.dtype)
        return tf.concat([rows, kernel[tf.shape(rows)[0] :]], axis=0)


def copy_initializer(initializer: Any) -> Any:
    """An initializer of the same settings: one that is used again gives the same values again."""
    initializer = tf.keras.initializers.get(initializer)
    if not isinstance(initializer, tf.keras.initializers.Initializer):
        return initializer
    return type(initializer).from_config(initializer.get_config())


def _arguments(cls: type) -> set[str]:
    """Names of the arguments of a class's constructor and of those that it passes keywords to."""
    names: set[str] = set()
    for base in cls.__mro__:
        if base is ConfiguredLayer:
            break
        if "__init__" in vars(base):
            parameters = inspect.signature(base).parameters.values()
            keywords = [p for p in parameters if p.kind is inspect.Parameter.VAR_KEYWORD]
            names.update(p.name for p in parameters if p not in keywords)
            if not keywords:
                break
    return names
