"""Multi-head target attention over a whole history, as ETA, TWIN and their successors read the short one."""

from typing import Any

from dgin_tf.layers.configured import as_layer
from dgin_tf.layers.events import History, State, Target
from dgin_tf.layers.interest_encoder import InterestEncoder
from dgin_tf.layers.multi_head_attention import MultiHeadAttention


class MultiHeadHistory(InterestEncoder):
    """The history itself is the state; several heads read it for each candidate.

    State: `events` [users, time, dim] and `mask` bool [users, time].

    Example:

      >>> target, events = tf.random.normal([2, 3, 8]), tf.random.normal([2, 100, 8])
      >>> MultiHeadHistory()(target, (events, tf.fill([2, 100], True)))["attention"].shape
      TensorShape([2, 3, 2, 100])

    Args:
      attention: None for two heads, projected and scaled.
    """

    def __init__(self, attention: MultiHeadAttention | None = None, **kwargs: Any):
        super().__init__(**kwargs)
        self.attention = as_layer(attention) or MultiHeadAttention(
            name="attention", dtype=self.dtype_policy
        )

    def encode(self, history: History, training: bool = False) -> State:
        """Keeps the embedded events and their mask."""
        return {"events": history.events, "mask": history.mask}

    def interest(self, state: State, target: Target, training: bool = False) -> State:
        """Returns `interest` [users, candidates, dim], `attention` [users, candidates, heads, time]."""
        interest, weights = self.attention(target.embedding, state["events"], state["mask"])
        return {"interest": interest, "attention": weights}
