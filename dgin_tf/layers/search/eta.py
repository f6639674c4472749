"""ETA: the events whose signatures are nearest to the candidate's (Chen et al., 2021).

"End-to-End User Behavior Retrieval in CTR Prediction Model" hashes the very embeddings that the model
is training, so that the search always agrees with them; nothing passes a gradient but the embeddings
of the retrieved events. The paper's Algorithm 1 sums signs of products, which loses the angle; its text
and every implementation take the sign of the sum, and so does `ops.signatures`.
"""

from typing import Any

import tensorflow as tf

from dgin_tf.layers.events import MASK, History, State, Target, embed_without_gradient
from dgin_tf.layers.search.random_hyperplanes import RandomHyperplanes
from dgin_tf.layers.search.unit import SearchResult, SearchUnit, top_events
from dgin_tf.ops import signatures

SIGNATURES = "signatures"


class SimHashSearch(SearchUnit):
    """Smallest Hamming distance first, the more recent of equal ones first.

    State: `signatures`, int64 [users, time, words]. An embedding of zeros has the signature 0. Stored
    signatures age as the tables are trained on; the next `encode` makes new ones.

    Example:

      >>> target, events = tf.random.normal([2, 4, 8]), tf.random.normal([2, 100, 8])
      >>> SimHashSearch(k=3)(target, (events, tf.fill([2, 100], True))).topk_indices.shape
      TensorShape([2, 4, 3])

    Args:
      k: how many events to retrieve at most.
      bits: m, length of a signature; the paper's gain ends at twice the width of an event.
      seed: of the random hyperplanes.
    """

    def __init__(self, k: int = 50, bits: int = 64, seed: int = 1, **kwargs: Any):
        super().__init__(k, **kwargs)
        self.hyperplanes = RandomHyperplanes(bits, seed, name="hyperplanes")
        self.bits = bits
        self.seed = seed

    def prepare(self, history: History, training: bool = False) -> State:
        """Signs every event."""
        events = embed_without_gradient(history, self.compute_dtype)
        return {SIGNATURES: signatures.pack(self.hyperplanes(events))}

    def search(self, state: State, target: Target, training: bool = False) -> SearchResult:
        """Retrieves the events nearest to each candidate; scores are minus the distance."""
        query = signatures.pack(self.hyperplanes(target.embedding))
        # [users, candidates, 1, words] against [users, 1, time, words]
        distance = signatures.hamming(query[:, :, tf.newaxis], state[SIGNATURES][:, tf.newaxis])
        return top_events(-tf.cast(distance, tf.float32), state[MASK][:, tf.newaxis], self.k)
