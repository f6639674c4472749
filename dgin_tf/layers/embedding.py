"""Embeds users, past events and candidates by the schema (Embedding&MLP, DIN section 4.2)."""

from collections.abc import Mapping, Sequence

import tensorflow as tf

from dgin_tf.layers.interest_encoder import FieldEmbedding, History, Target
from dgin_tf.layers.stored_events import events_by_field
from dgin_tf.ops.tables import read_rows
from dgin_tf.schema import (
    CANDIDATE,
    HISTORY,
    PADDING_ID,
    USER,
    Field,
    Schema,
    feature_name,
    negative_name,
)


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

    def history(self, features: Mapping[str, tf.Tensor]) -> History:
        """Embeds `hist_*` [users, time]; sampled non-clicks too where the batch has them."""
        mask = features["hist_mask"]
        raw = {name: value for name, value in features.items() if name.startswith("hist_")}
        names = [feature_name(HISTORY, field) for field in self.schema.paired_fields]
        sampled = {name: raw.get(negative_name(name)) for name in names}
        has_negatives = all(value is not None for value in sampled.values())
        history = History(
            lambda: mask_padding(tf.concat(events_by_field(history), axis=-1), mask),
            mask,
            raw,
            (lambda: mask_padding(self.events(sampled), mask)) if has_negatives else None,
            self.events(dict.fromkeys(names, tf.constant(PADDING_ID))),
            FieldEmbedding(self._events_by_field),
            tuple(names),
        )
        return history

    def events(self, features: Mapping[str, tf.Tensor]) -> tf.Tensor:
        """Embeds the paired fields among raw history features, [...] -> [..., event_dim]."""
        return tf.concat(self._events_by_field(features), axis=-1)

    def _events_by_field(self, features: Mapping[str, tf.Tensor]) -> list[tf.Tensor]:
        fields = self.schema.paired_fields
        return [self.lookup(field, features[feature_name(HISTORY, field)]) for field in fields]

    def target(self, features: Mapping[str, tf.Tensor]) -> Target:
        """Embeds `cand_*` [users, candidates]."""
        raw = {name: value for name, value in features.items() if name.startswith("cand_")}
        fields = self.schema.paired_fields
        embedding = self._concat([(f, raw[feature_name(CANDIDATE, f)]) for f in fields])
        return Target(embedding, features["cand_mask"], raw, self.events)

    def user(self, features: Mapping[str, tf.Tensor]) -> tf.Tensor | None:
        """Embeds the chosen user fields, [users, dim of all]; None where none were chosen."""
        if not self._user_fields:
            return None
        return self._concat([(f, features[feature_name(USER, f)]) for f in self._user_fields])

    def lookup(self, field: Field, ids: tf.Tensor) -> tf.Tensor:
        """Rows of a field's table, ids' shape + [dim]."""
        rows = read_rows(self.tables[field.vocabulary], ids)
        return tf.cast(rows, self.compute_dtype)

    def _concat(self, fields_and_ids):
        return tf.concat([self.lookup(field, ids) for field, ids in fields_and_ids], axis=-1)

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


def mask_padding(events: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
    """Sets padded positions of [users, time, dim] to exactly zero."""
    return tf.where(mask[..., None], events, tf.zeros([], events.dtype))
