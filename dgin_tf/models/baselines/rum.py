"""Feature-level RUM (Chen et al., WSDM 2018), a baseline of MIMN (Pi et al., KDD 2019, table 2)."""

from dgin_tf.layers.interest_encoder import INTEREST
from dgin_tf.layers.memory.rum import KeyedMemory, UserMemory
from dgin_tf.models.base import ModelConfig
from dgin_tf.models.mimn import MemoryFamilyModel
from dgin_tf.schema import Schema


class RUM(MemoryFamilyModel, registry_name="rum"):
    """A user's memory under global feature keys, read by the candidate.

    RUM's own score is an inner product with a user vector, p*_u + alpha p_m; here p_m joins the head
    that all models of the comparison have.

    Args:
      schema: the data.
      config: embedding and head.
      slots: K.
      strength: beta of the keys.
    """

    def __init__(
        self,
        schema: Schema,
        config: ModelConfig | None = None,
        slots: int = 4,
        strength: float = 1.0,
    ):
        memory = KeyedMemory(slots, strength, name="memory")
        super().__init__(schema, UserMemory(memory, name=INTEREST), config)
        self.slots = slots
        self.strength = strength
