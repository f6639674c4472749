"""Synthetic requests for every signature: examples, warm-up, and the check of an export's scores.

They are sampled from the vocabularies, so that no user's history travels with a model.
"""

from collections.abc import Mapping

import numpy as np

from dgin_tf.records import LABEL, POSITION, Arrays, encode_record
from dgin_tf.schema import (
    CANDIDATE,
    CONTEXT,
    FIRST_ID,
    HISTORY,
    ITEM,
    USER,
    Field,
    Schema,
    feature_name,
)

_NOW = 1_500_000_000
_LARGEST_NUMBER = 100_000  # of a numeric feature in its integer form, where 0 is unknown


class RequestMaker:
    """Samples users with histories and candidates.

    Args:
      schema: fields and vocabulary sizes.
      catalogue: field name -> attribute of every item id, [items].
      seed: of the random generator.
    """

    def __init__(self, schema: Schema, catalogue: Mapping[str, np.ndarray], seed: int = 0):
        self._schema = schema
        self._catalogue = catalogue
        self._rng = np.random.default_rng(seed)

    def batch(self, users: int, time: int, candidates: int) -> Arrays:
        """A batch without masks: `hist_*` [users, time], `cand_*` [users, candidates], `user_*`, `context_*`."""
        of_rows = {
            feature_name(role, field): self._sample(field, (users,))
            for role, fields in (
                (USER, self._schema.user_fields),
                (CONTEXT, self._schema.context_fields),
            )
            for field in fields
        }
        history = self._role(HISTORY, (users, time))
        return {**of_rows, **history, **self._role(CANDIDATE, (users, candidates))}

    def records(self, batch: Mapping[str, np.ndarray]) -> list[bytes]:
        """Serialized records of the users of a batch, with all candidates after the whole history."""
        users, time = batch[feature_name(HISTORY, self._schema.field(ITEM))].shape
        candidates = batch[feature_name(CANDIDATE, self._schema.field(ITEM))].shape[1]
        cuts = {POSITION: np.full(candidates, time), LABEL: np.zeros(candidates, int)}
        # A record has the context of a request for each of its candidates, and one value of the user.
        counts: dict[str, int] = {
            **{feature_name(USER, field): 1 for field in self._schema.user_fields},
            **{feature_name(CONTEXT, f): candidates for f in self._schema.context_fields},
        }
        return [
            encode_record(
                self._schema,
                {
                    name: np.stack([values[n]] * counts[name]) if name in counts else values[n]
                    for name, values in batch.items()
                }
                | cuts,
            )
            for n in range(users)
        ]

    def _role(self, role: str, shape: tuple[int, int]) -> Arrays:
        item_field = self._schema.field(ITEM)
        # Items first: the catalogue has the other fields of an item.
        item = self._sample(item_field, shape)
        arrays = {}
        for field in self._schema.with_role(role):
            if field == item_field:
                value = item
            elif field.name in self._catalogue:
                value = self._catalogue[field.name][item].astype(field.dtype)
            elif field.is_embedded:
                value = self._sample(field, shape)
            elif field.is_numeric:
                value = self._rng.integers(0, _LARGEST_NUMBER, shape).astype(field.dtype)
            else:
                # Seconds: events in their order, candidates after all of them.
                before = np.arange(shape[1], 0, -1) if role == HISTORY else 0
                value = np.broadcast_to(_NOW - before, shape).astype(field.dtype)
            arrays[feature_name(role, field)] = value
        return arrays

    def _sample(self, field: Field, shape: tuple[int, ...]) -> np.ndarray:
        shape = (*shape, *field.shape)
        if field.is_standardized:
            mean, deviation = field.moments
            return self._rng.normal(mean, deviation, shape).astype(field.dtype)
        # At least one id, where a vocabulary of the data is empty.
        size = max(self._schema.vocabulary_sizes[field.vocabulary], FIRST_ID + 1)
        return self._rng.integers(FIRST_ID, size, shape).astype(field.dtype)
