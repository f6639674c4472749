"""Feature-level RUM (Chen et al., WSDM 2018), a baseline of MIMN (Pi et al., KDD 2019, table 2)."""

import tensorflow as tf

from dgin_tf.layers.interest_encoder import InterestEncoder
from dgin_tf.layers.memory.released import ReleasedMemoryInterest, ReleasedTuringMemory
from dgin_tf.layers.memory.user_memory import KeyedMemory, UserMemory
from dgin_tf.models.base import ModelConfig
from dgin_tf.models.dien import event_width
from dgin_tf.models.mimn import MemoryFamilyModel
from dgin_tf.models.released import RELEASED, check_variant
from dgin_tf.ops.released_memory import ReleasedStep
from dgin_tf.schema import Schema


@tf.keras.utils.register_keras_serializable("dgin_tf")
class RUM(MemoryFamilyModel):
    """A user's memory under global feature keys, read by the candidate.

    RUM's own score is an inner product with a user vector, p*_u + alpha p_m; here p_m joins the head
    that all models of the comparison have.

    `variant="released"` is MIMN's re-implementation, a Turing machine without keys, by which the
    table's row was made.

    Args:
      schema: the data.
      config: embedding and head.
      variant: "paper" or "released".
      slots: K.
      strength: beta of the keys; the released cell computes one for every event.
    """

    def __init__(
        self,
        schema: Schema,
        config: ModelConfig | None = None,
        variant: str = "paper",
        slots: int = 4,
        strength: float = 1.0,
    ):
        check_variant(variant)
        encoder: InterestEncoder
        if variant == RELEASED:
            width = event_width(schema, config)
            step = ReleasedStep(width, keyed=False, clears=True)
            memory = ReleasedTuringMemory(step, slots, width, name="memory")
            encoder = ReleasedMemoryInterest(memory, name="interest")
        else:
            encoder = UserMemory(KeyedMemory(slots, strength, name="memory"), name="interest")
        super().__init__(schema, encoder, config, variant)
