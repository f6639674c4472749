"""GRU4Rec and ARNN of MIMN's code (UIC-Paper/MIMN): a GRU of TensorFlow 1 that reads padding too.

That code pads on the left, and its GRU runs over the padding as over events of zeros. The state then
depends on the padded length, so that newer events cannot be folded into it.
"""

import tensorflow as tf

from dgin_tf.layers.events import History
from dgin_tf.layers.hidden_states import AttendedHiddenStates, LastHiddenState
from dgin_tf.layers.interest_encoder import InterestEncoder
from dgin_tf.models.base import ModelConfig
from dgin_tf.models.baselines.hidden_states import ARNN, GRU4Rec
from dgin_tf.ops.event_order import padding_first
from dgin_tf.released.head import released_config
from dgin_tf.released.recurrent import ReleasedGRU
from dgin_tf.schema import Schema


class ReleasedLastHiddenState(LastHiddenState):
    """The last state of a GRU that reads padding on the left like events of zeros.

    Example:

      >>> events, mask = tf.random.normal([2, 5, 4]), tf.constant([[True] * 5, [True] * 2 + [False] * 3])
      >>> encoder = ReleasedLastHiddenState(ReleasedGRU(8))
      >>> encoder(tf.random.normal([2, 3, 4]), (events, mask))["interest"].shape
      TensorShape([2, 3, 8])
    """

    update = InterestEncoder.update

    def run(self, history: History, training: bool) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """See `LastHiddenState.run`; the states stand where the padding is in front."""
        events, mask = padding_first(history.events, history.mask)
        # Without a mask: padding moves the state too.
        states, last = self.gru(events, training=training)
        return states, last, mask


class ReleasedAttendedHiddenStates(AttendedHiddenStates):
    """The last state and the attended sum of all real ones, of such a GRU.

    Example:

      >>> events, mask = tf.random.normal([2, 5, 4]), tf.constant([[True] * 5, [True] * 2 + [False] * 3])
      >>> encoder = ReleasedAttendedHiddenStates(ReleasedGRU(4))
      >>> encoder(tf.random.normal([2, 3, 4]), (events, mask))["interest"].shape
      TensorShape([2, 3, 8])
    """

    update = InterestEncoder.update
    run = ReleasedLastHiddenState.run


class GRU4RecReleased(GRU4Rec, registry_name="gru4rec_released"):
    """GRU4Rec of MIMN's code, without a user's id in its head; arguments as for `GRU4Rec`."""

    gru_class, encoder_class = ReleasedGRU, ReleasedLastHiddenState

    def __init__(self, schema: Schema, config: ModelConfig | None = None, units: int | None = None):
        super().__init__(schema, released_config(config, "prelu", user_fields=()), units)


class ARNNReleased(ARNN, registry_name="arnn_released"):
    """ARNN of MIMN's code, without a user's id in its head; arguments as for `ARNN`."""

    gru_class, encoder_class = ReleasedGRU, ReleasedAttendedHiddenStates

    def __init__(self, schema: Schema, config: ModelConfig | None = None):
        super().__init__(schema, released_config(config, "prelu", user_fields=()))
