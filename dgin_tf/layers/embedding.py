"""Embeds users, past events and candidates by the schema (Embedding&MLP, DIN section 4.2)."""

from collections.abc import Mapping, Sequence

import tensorflow as tf

from dgin_tf.layers.events import History, State, Target, embed_ids
from dgin_tf.schema import (
    CANDIDATE,
    HISTORY,
    PADDING_ID,
    PREFIX,
    USER,
    Schema,
    feature_name,
    negative_name,
)


@tf.keras.utils.register_keras_serializable("dgin_tf")
class FeatureEmbedding(tf.keras.layers.Layer):
    """One table a vocabulary; a field's ids are looked up in its vocabulary's table.

    Past events and candidates are embedded by the fields that both have, concatenated in schema
    order, so that attention can compare them. The tables are the model's only large variables and
    receive sparse gradients.

    Args:
      schema: fields and vocabulary sizes.
      dim: n_E, width of one field's embedding.
      user_fields: names of the user fields to embed; none by default, since a user id helps only
        those users that training has seen.
      limit: tables start uniformly within [-limit, limit]; None for Glorot's, which is small for
        large vocabularies: .027 for 8,000 rows of 18.

    Raises:
      ValueError: a name in `user_fields` is not a categorical user field of the schema, or `limit`
        is not positive.
    """

    def __init__(
        self,
        schema: Schema,
        dim: int = 18,
        user_fields: Sequence[str] = (),
        limit: float | None = None,
        **kwargs,
    ):
        super().__init__(**kwargs)
        if limit is not None and not limit > 0:
            raise ValueError(f"limit must be positive, or None; got {limit}.")
        known = {field.name: field for field in schema.user_fields}
        unknown = sorted(set(user_fields) - set(known))
        if unknown:
            raise ValueError(
                f"user_fields must be categorical user fields of the schema, {sorted(known)}; "
                f"got {unknown}."
            )
        self.schema = schema
        self.dim = dim
        self.limit = limit
        self.user_fields = tuple(user_fields)
        self._user_fields = tuple(known[name] for name in user_fields)
        vocabularies = {f.vocabulary for f in (*schema.paired_fields, *self._user_fields)}
        self.tables = {
            name: self.add_weight(
                name=name,
                shape=(schema.vocabulary_sizes[name], dim),
                initializer=self._start(),
                experimental_autocast=False,
            )
            for name in sorted(vocabularies)
        }

    def _start(self):
        """A new one for every table: an initializer that is used again gives the same values again."""
        if self.limit is None:
            return tf.keras.initializers.GlorotUniform()
        return tf.keras.initializers.RandomUniform(-self.limit, self.limit)

    @property
    def event_dim(self) -> int:
        """Width of an embedded event or candidate: the paired fields times `dim`."""
        return self.dim * len(self.schema.paired_fields)

    def call(self, ids: Mapping[str, tf.Tensor]) -> tf.Tensor:
        """Embeds events or candidates.

        Args:
          ids: by field name, of every field that events and candidates share, all of one shape [...].

        Returns:
          [..., event_dim], the fields side by side in schema order.
        """
        return embed_ids(self.field_tables, ids, self.compute_dtype)

    def history(self, features: Mapping[str, tf.Tensor]) -> History:
        """Past events `hist_*` [users, time] as ids, with their tables.

        Sampled negatives, where the batch has them, are embedded.
        """
        mask = role_mask(features, HISTORY, self.schema)
        raw = _by_field(features, HISTORY, self.schema)
        names = [field.name for field in self.schema.paired_fields]
        sampled = {name: features.get(negative_name(PREFIX[HISTORY] + name)) for name in names}
        negatives = None
        if all(value is not None for value in sampled.values()):
            negatives = embed_ids(self.field_tables, sampled, self.compute_dtype, mask)
        return History(None, mask, raw, negatives=negatives, tables=self.field_tables)

    def target(self, features: Mapping[str, tf.Tensor]) -> Target:
        """Embeds candidates `cand_*` [users, candidates]."""
        mask = role_mask(features, CANDIDATE, self.schema)
        raw = _by_field(features, CANDIDATE, self.schema)
        embedding = self({name: raw[name] for name in self.field_tables})
        return Target(embedding, mask, raw, self.field_tables)

    def user(self, features: Mapping[str, tf.Tensor]) -> tf.Tensor | None:
        """Embeds the selected user fields, [users, dim of all]; None where none were selected."""
        if not self._user_fields:
            return None
        tables = {field.name: self.tables[field.vocabulary] for field in self._user_fields}
        ids = {field.name: features[feature_name(USER, field)] for field in self._user_fields}
        return embed_ids(tables, ids, self.compute_dtype)

    @property
    def field_tables(self) -> dict[str, tf.Variable]:
        """Table of every field that events and candidates share, in schema order."""
        return {field.name: self.tables[field.vocabulary] for field in self.schema.paired_fields}

    def get_config(self):
        return {
            **super().get_config(),
            "schema": self.schema.to_json(),
            "dim": self.dim,
            "user_fields": self.user_fields,
            "limit": self.limit,
        }

    @classmethod
    def from_config(cls, config):
        return cls(**{**config, "schema": Schema.from_json(config["schema"])})


def role_mask(features: Mapping[str, tf.Tensor], role: str, schema: Schema) -> tf.Tensor:
    """`hist_mask` or `cand_mask` of a batch; where it has none, every item that is not padding."""
    mask = features.get(PREFIX[role] + "mask")
    if mask is not None:
        return mask
    return features[feature_name(role, schema.paired_fields[0])] != PADDING_ID


def _by_field(features: Mapping[str, tf.Tensor], role: str, schema: Schema) -> State:
    """The raw features of a role by the names of their fields."""
    names = {field.name: feature_name(role, field) for field in schema.with_role(role)}
    return {name: features[feature] for name, feature in names.items() if feature in features}
