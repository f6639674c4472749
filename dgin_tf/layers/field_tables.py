"""Tables of fields whose values are not one id: multi-valued ids and standardized numbers.

They stand in `History.tables` and `Target.tables` where other fields have a plain variable. To Keras each
is one opaque value with the shape of its variable.
"""

from collections.abc import Mapping, Sequence
from typing import TypeAlias

import tensorflow as tf

from dgin_tf.ops.tables import read_rows
from dgin_tf.schema import PADDING_ID, Field

FARTHEST = 10.0
"""Standard deviations from the mean at which numbers are cut off."""

_SLOPE, _OFFSET, _UNKNOWN = NUMBER_ROWS = (0, 1, 2)


class FieldTable:
    """A variable and the way in which a field's values are embedded by it.

    Args:
      table: [rows, dim].
    """

    def __init__(self, table: tf.Variable):
        self.table = table

    @property
    def shape(self) -> tf.TensorShape:
        return self.table.shape

    @property
    def dtype(self) -> tf.DType:
        return self.table.dtype

    def read(self, values: tf.Tensor) -> tf.Tensor:
        """Embeddings of values, [..., dim]."""
        raise NotImplementedError

    def padding(self) -> tf.Tensor:
        """The value of an event of padding."""
        raise NotImplementedError


class MultiValuedTable(FieldTable):
    """The mean of the embeddings of a value's ids; of no ids that of padding, which is zero.

    Args:
      table: [ids, dim].
      values: ids of a value at most.
    """

    def __init__(self, table: tf.Variable, values: int):
        super().__init__(table)
        self.values = values

    def read(self, values: tf.Tensor) -> tf.Tensor:
        """Ids [..., values], padded with 0, -> [..., dim]."""
        is_id = tf.cast(values != PADDING_ID, self.dtype)[..., tf.newaxis]
        total = tf.reduce_sum(read_rows(self.table, values) * is_id, axis=-2)
        return total / tf.maximum(tf.reduce_sum(is_id, axis=-2), 1.0)

    def padding(self) -> tf.Tensor:
        return tf.fill([self.values], PADDING_ID)


class NumberTable(FieldTable):
    """A standardized number times a vector and plus another one; a vector of its own where it is unknown.

    Args:
      table: [3, dim]: slope, offset, and the embedding of an unknown number.
      moments: mean and standard deviation.
    """

    def __init__(self, table: tf.Variable, moments: Sequence[float]):
        super().__init__(table)
        self.moments = tuple(moments)

    def read(self, values: tf.Tensor) -> tf.Tensor:
        """Numbers [...], NaN where unknown, -> [..., dim]."""
        mean, deviation = self.moments
        # Looked up, so that the gradient is sparse as that of all tables is.
        rows = read_rows(self.table, tf.constant(NUMBER_ROWS))
        is_unknown = tf.math.is_nan(values)
        # Without the number, NaN times a gradient of zero would be NaN.
        known = tf.where(is_unknown, tf.constant(mean, values.dtype), values)
        number = tf.clip_by_value((known - mean) / deviation, -FARTHEST, FARTHEST)
        number = tf.cast(number, self.dtype)[..., tf.newaxis]
        embedding = number * rows[_SLOPE] + rows[_OFFSET]
        return tf.where(is_unknown[..., tf.newaxis], rows[_UNKNOWN], embedding)

    def padding(self) -> tf.Tensor:
        return tf.zeros([])


Table: TypeAlias = tf.Variable | FieldTable


def table_rows(field: Field, vocabulary_sizes: Mapping[str, int]) -> int:
    """Rows of a field's table."""
    return len(NUMBER_ROWS) if field.is_standardized else vocabulary_sizes[field.vocabulary]


def field_table(field: Field, table: tf.Variable) -> Table:
    """The table of a field, given the variable of its vocabulary or of its number."""
    if field.is_standardized:
        return NumberTable(table, field.moments)
    return MultiValuedTable(table, field.values) if field.values > 1 else table


def read_values(table: Table, values: tf.Tensor) -> tf.Tensor:
    """Embeddings [..., dim] of a field's values."""
    return table.read(values) if isinstance(table, FieldTable) else read_rows(table, values)


def padding_value(table: Table) -> tf.Tensor:
    """The value that a field has under padding."""
    return table.padding() if isinstance(table, FieldTable) else tf.constant(PADDING_ID)
