"""DIN as in the released DIEN (`Model_DIN` of mouna99/dien)."""

from collections.abc import Sequence

from dgin_tf.layers.activations import ActivationSpec
from dgin_tf.models.base import ModelConfig
from dgin_tf.models.din import DIN
from dgin_tf.released.head import ReleasedHead
from dgin_tf.schema import Schema


class DINReleased(DIN, ReleasedHead, registry_name="din_released"):
    """An 80-40 sigmoid activation unit with a softmax over time; arguments as for `DIN`."""

    def __init__(
        self,
        schema: Schema,
        config: ModelConfig | None = None,
        units: Sequence[int] = (80, 40),
        activation: ActivationSpec = "sigmoid",
        softmax: bool = True,
    ):
        super().__init__(schema, config, units, activation, softmax)
