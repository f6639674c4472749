"""Hard search (SIM, section 3.2): the past events of the candidate's own category."""

from typing import Any

import tensorflow as tf

from dgin_tf.layers.interest_encoder import State, Target
from dgin_tf.layers.search.unit import Found, SearchUnit, best
from dgin_tf.layers.stored_events import STORED_MASK


@tf.keras.utils.register_keras_serializable("dgin_tf")
class HardSearch(SearchUnit):
    """Eq. (1), hard: r_i = Sign(C_i = C_a), the most recent ones first.

    Where no event shares the candidate's category nothing is found.

    Args:
      k: how many events to find at most.
      field: the attribute that must agree.
    """

    def __init__(self, k: int = 50, field: str = "category_id", **kwargs: Any):
        super().__init__(k, **kwargs)
        self.field = field

    def search(self, state: State, target: Target, training: bool = False) -> Found:
        """Finds the newest events of each candidate's category."""
        del training
        past, wanted = state[f"past_{self.field}"], target.features[f"cand_{self.field}"]
        same = (past[:, tf.newaxis] == wanted[..., tf.newaxis]) & state[STORED_MASK][:, tf.newaxis]
        # float32 holds every place up to 2^24 and has the fastest top_k.
        recency = tf.range(tf.shape(past)[1])
        _, indices, mask = best(tf.cast(recency, tf.float32), same, self.k)
        return Found(indices, mask)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "field": self.field}
