"""Embeds users, past events and candidates by the schema (Embedding&MLP, DIN section 4.2)."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from dgin_tf.layers.configured import ConfiguredLayer, copy_initializer
from dgin_tf.layers.events import History, State, Target, embed_ids
from dgin_tf.layers.field_tables import Table, field_table, table_rows
from dgin_tf.ops.parts import parts_of
from dgin_tf.ops.tables import read_rows
from dgin_tf.schema import (
    CANDIDATE,
    CONTEXT,
    HISTORY,
    PADDING_ID,
    PREFIX,
    USER,
    Field,
    Schema,
    check_features,
    feature_name,
    negative_name,
)


class FeatureEmbedding(ConfiguredLayer):
    """One table a vocabulary; a field's ids are looked up in its vocabulary's table.

    Past events and candidates are embedded by the fields that both have, concatenated in schema
    order, so that attention can compare them. The tables are the model's only large variables and
    receive sparse gradients. Several ids of one field are averaged, and a standardized number moves along
    a vector of its own, so that every field is `dim` wide (`dgin_tf.layers.field_tables`).

    Args:
      schema: fields and vocabulary sizes.
      dim: n_E, width of one field's embedding.
      user_fields: names of the user fields to embed; none by default, since a user id helps only
        those users that training has seen. Columns that the data declare are embedded besides.
      initializer: of the tables; None for Glorot's, which is small for large vocabularies: .027 for
        8,000 rows of 18.
      mini_batch_l2: lambda of DIN's mini-batch aware regularization (its Eqs. 4-7), which penalizes the
        rows of a batch alone, rare ids more; 0 for none. `adapt` counts how often each id occurs.

    Raises:
      ValueError: a name in `user_fields` is not a categorical user field of the schema, or
        `mini_batch_l2` is negative.

    Example:

      >>> from dgin_tf.schema import Field
      >>> items = Field("item_id", ("history", "candidate"), "item_id")
      >>> embedding = FeatureEmbedding(Schema((items,), {"item_id": 100}, max_history=50), dim=4)
      >>> embedding({"item_id": tf.constant([[2, 3, 0]])}).shape
      TensorShape([1, 3, 4])
    """

    def __init__(
        self,
        schema: Schema,
        dim: int = 18,
        user_fields: Sequence[str] = (),
        initializer: Any = None,
        mini_batch_l2: float = 0.0,
        **kwargs,
    ):
        super().__init__(**kwargs)
        if mini_batch_l2 < 0:
            raise ValueError(f"mini_batch_l2 must not be negative; got {mini_batch_l2}.")
        by_name = {field.name: field for field in schema.user_fields}
        if unknown_names := sorted(set(user_fields) - set(by_name)):
            raise ValueError(
                f"user_fields must be categorical user fields of the schema, {sorted(by_name)}; "
                f"got {unknown_names}."
            )
        self.schema = schema
        self.dim = dim
        self.initializer = initializer
        self.mini_batch_l2 = mini_batch_l2
        self.user_fields = tuple(user_fields)
        columns = [f.name for f in schema.user_fields if f.is_column and f.name not in user_fields]
        self._user_fields = tuple(by_name[name] for name in (*user_fields, *columns))
        fields = (*schema.paired_fields, *self._user_fields, *schema.context_fields)
        by_table = {field.table: field for field in fields}
        self.tables = {
            # A copy for every table: an initializer that is used again gives the same values again.
            name: self.add_float_weight(
                name,
                [table_rows(by_table[name], schema.vocabulary_sizes), dim],
                copy_initializer(initializer or "glorot_uniform"),
            )
            for name in sorted(by_table)
        }
        self.counts = {}
        if mini_batch_l2:
            # n_j, how often each id occurs in all samples; 1 where nobody has counted.
            self.counts = {
                name: self.add_weight(
                    f"{name}_counts", table.shape[:1], tf.float32, "ones", trainable=False
                )
                for name, table in self.tables.items()
                if by_table[name].is_categorical
            }

    @property
    def event_dim(self) -> int:
        """Width of an embedded event or candidate: the paired fields times `dim`."""
        return self.dim * len(self.schema.paired_fields)

    def call(self, ids: Mapping[str, tf.Tensor]) -> tf.Tensor:
        """Embeds events or candidates.

        Args:
          ids: by field name, of every field that events and candidates share, all of one shape [...], or
            [..., values] of several ids.

        Returns:
          [..., event_dim], the fields side by side in schema order.
        """
        return embed_ids(self.field_tables, ids, self.compute_dtype)

    def history(self, features: Mapping[str, tf.Tensor]) -> History:
        """Past events `hist_*` [users, time] as ids, with their tables.

        Sampled negatives, where the batch has them, are embedded.
        """
        raw = _by_field(features, HISTORY, self.schema)
        mask = role_mask(features, HISTORY, self.schema)
        names = [field.name for field in self.schema.paired_fields]
        sampled = {name: features.get(negative_name(PREFIX[HISTORY] + name)) for name in names}
        negatives = None
        if all(value is not None for value in sampled.values()):
            negatives = embed_ids(self.field_tables, sampled, self.compute_dtype, mask)
        return History(None, mask, raw, negatives=negatives, tables=self.field_tables)

    def target(self, features: Mapping[str, tf.Tensor]) -> Target:
        """Embeds candidates `cand_*` [users, candidates]."""
        raw = _by_field(features, CANDIDATE, self.schema)
        mask = role_mask(features, CANDIDATE, self.schema)
        embedding = self({name: raw[name] for name in self.field_tables})
        return Target(embedding, mask, raw, self.field_tables)

    def user(self, features: Mapping[str, tf.Tensor]) -> tf.Tensor | None:
        """Embeds the selected user fields, [users, dim of all]; None where none were selected."""
        return self._of_rows(USER, self._user_fields, features)

    def context(self, features: Mapping[str, tf.Tensor]) -> tf.Tensor | None:
        """Embeds the request's own fields, [users, dim of all]; None where the schema has none."""
        return self._of_rows(CONTEXT, self.schema.context_fields, features)

    def _of_rows(self, role, fields: Sequence[Field], features):
        if not fields:
            return None
        names = {field.name: feature_name(role, field) for field in fields}
        check_features(features, names.values(), role)
        tables = {field.name: field_table(field, self.tables[field.table]) for field in fields}
        values = {name: tf.convert_to_tensor(features[names[name]]) for name in names}
        return embed_ids(tables, values, self.compute_dtype)

    def penalty(self, features: Mapping[str, tf.Tensor]) -> tf.Tensor:
        """Mini-batch aware regularization of a batch: lambda/2 sum_j alpha_j / n_j |w_j|^2, DIN Eq. (6).

        alpha_j is 1 for ids that the batch has, padding left out. Under a strategy every replica looks at
        its own part of the batch.

        Args:
          features: a batch.

        Returns:
          A scalar.
        """
        total = tf.zeros([])
        for name, ids in self._ids_by_vocabulary(features).items():
            # Sorted, so that the first of every id can be told; `tf.unique` has no static shape.
            ids = tf.sort(tf.concat([tf.reshape(part, [-1]) for part in ids], axis=0))
            is_first = tf.concat([[True], ids[1:] != ids[:-1]], axis=0) & (ids != PADDING_ID)
            rows = read_rows(self.tables[name], ids)  # [ids, dim]
            weights = tf.where(is_first, 1.0 / tf.gather(self.counts[name], ids), 0.0)
            total += tf.reduce_sum(weights * tf.reduce_sum(tf.square(rows), axis=1))
        return 0.5 * self.mini_batch_l2 * total

    def adapt(self, dataset: Iterable[Mapping[str, tf.Tensor]]) -> None:
        """Counts how often every id occurs, n_j of DIN's Eq. (6), as Keras' `Discretization` learns.

        Args:
          dataset: training batches, once through.
        """
        totals = {name: np.zeros(table.shape[0]) for name, table in self.counts.items()}
        for features in dataset:
            for name, ids in self._ids_by_vocabulary(features).items():
                for part in ids:
                    totals[name] += np.bincount(np.ravel(part), minlength=len(totals[name]))
        for name, counts in self.counts.items():
            totals[name][PADDING_ID] = 0
            counts.assign(np.maximum(totals[name], 1.0))

    def _ids_by_vocabulary(self, features: Mapping[str, tf.Tensor]) -> dict[str, list[tf.Tensor]]:
        """The ids of a batch that are looked up, padding being `PADDING_ID`, by vocabulary."""
        ids: dict[str, list[tf.Tensor]] = {name: [] for name in self.counts}
        for part in parts_of(features):
            for role in (HISTORY, CANDIDATE):
                mask = role_mask(part, role, self.schema)
                for field in filter(_is_categorical, self.schema.paired_fields):
                    values = part[feature_name(role, field)]
                    is_real = mask[..., tf.newaxis] if field.shape else mask
                    ids[field.vocabulary].append(tf.where(is_real, values, PADDING_ID))
            for role, fields in (
                (USER, self._user_fields),
                (CONTEXT, self.schema.context_fields),
            ):
                for field in filter(_is_categorical, fields):
                    ids[field.vocabulary].append(part[feature_name(role, field)])
        return ids

    @property
    def field_tables(self) -> dict[str, Table]:
        """Table of every field that events and candidates share, in schema order."""
        return {
            field.name: field_table(field, self.tables[field.table])
            for field in self.schema.paired_fields
        }

    def get_config(self):
        return {**super().get_config(), "schema": self.schema.to_json()}

    @classmethod
    def from_config(cls, config):
        return cls(**{**config, "schema": Schema.from_json(config["schema"])})


def role_mask(features: Mapping[str, tf.Tensor], role: str, schema: Schema) -> tf.Tensor:
    """`hist_mask` or `cand_mask` of a batch; where it has none, every item that is not padding."""
    mask = features.get(PREFIX[role] + "mask")
    if mask is not None:
        return tf.cast(mask, tf.bool)
    check_features(features, [feature_name(role, schema.paired_ids[0])])
    return features[feature_name(role, schema.paired_ids[0])] != PADDING_ID


def _is_categorical(field: Field) -> bool:
    return field.is_categorical


def _by_field(features: Mapping[str, tf.Tensor], role: str, schema: Schema) -> State:
    """The raw features of a role by the names of their fields.

    Raises:
      ValueError: an id that events and candidates share is missing, or is not a matrix.
    """
    check_features(features, [feature_name(role, field) for field in schema.paired_fields])
    for field in schema.paired_fields:
        name = feature_name(role, field)
        if len(features[name].shape) != 2 + len(field.shape):
            values = f" of {field.values} ids each" if field.shape else ""
            raise ValueError(
                f"{name} must be a matrix, a row for each user{values}; got {features[name].shape}."
            )
    names = {field.name: feature_name(role, field) for field in schema.with_role(role)}
    return {
        name: tf.convert_to_tensor(features[feature])
        for name, feature in names.items()
        if feature in features
    }
