"""MIMN and RUM as in the authors' code (UIC-Paper/MIMN), under its head.

Differences to the paper are listed in `dgin_tf.released.memory`. The head is that of
`dgin_tf.released.head` with PReLU and without the user's id.
"""

from dgin_tf.layers.interest_encoder import INTEREST, InterestEncoder
from dgin_tf.models.base import ModelConfig
from dgin_tf.models.dien import event_width
from dgin_tf.models.mimn import MIMN, MemoryFamilyModel, MemorySettings
from dgin_tf.released.dien import ReleasedAuxiliaryLoss
from dgin_tf.released.head import released_config
from dgin_tf.released.memory import ReleasedMemoryInterest, ReleasedStep, ReleasedTuringMemory
from dgin_tf.schema import Schema


class MIMNReleased(MIMN, registry_name="mimn_released"):
    """The released MIMN; its induction unit updates one channel.

    Args:
      schema: the data.
      config: sizes of embedding and head.
      memory: the encoder; None for that of the default `Settings`.
    """

    Settings = MemorySettings

    def __init__(
        self,
        schema: Schema,
        config: ModelConfig | None = None,
        memory: InterestEncoder | None = None,
    ):
        super().__init__(schema, released_config(config, "prelu", ()), memory)

    @classmethod
    def blocks(cls, schema, config, settings):
        """The released memory.

        Raises:
          ValueError: more than one channel is to be updated.
        """
        if settings.top_k > 1:
            raise ValueError(
                f"the released induction unit updates one channel; got top_k={settings.top_k}."
            )
        loss = None
        if settings.auxiliary_weight:
            loss = ReleasedAuxiliaryLoss(settings.auxiliary_weight, name="auxiliary_loss")
        width = event_width(schema, config)
        balances, induces = settings.utilization_weight > 0, settings.top_k > 0
        step = ReleasedStep(width, balances=balances, induces=induces, clears=True)
        units = settings.units or width
        memory = ReleasedTuringMemory(step, settings.slots, units, name="memory")
        weight = settings.utilization_weight
        return {"memory": ReleasedMemoryInterest(memory, weight, loss, name=INTEREST)}


class RUMReleased(MemoryFamilyModel, registry_name="rum_released"):
    """RUM in MIMN's code: a Turing machine without keys, which the row of MIMN's table 2 comes from.

    Args:
      schema: the data.
      config: sizes of embedding and head.
      slots: of the memory.
    """

    def __init__(self, schema: Schema, config: ModelConfig | None = None, slots: int = 4):
        width = event_width(schema, config)
        step = ReleasedStep(width, has_slot_keys=False, clears=True)
        memory = ReleasedTuringMemory(step, slots, width, name="memory")
        encoder = ReleasedMemoryInterest(memory, name=INTEREST)
        super().__init__(schema, encoder, released_config(config, "prelu", ()))
        self.slots = slots
