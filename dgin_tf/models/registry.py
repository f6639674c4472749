"""Name -> class of every model, and models from the flat settings of configs and command lines."""

import inspect
import typing
from typing import Any, NamedTuple

from dgin_tf.models.base import CTRModel, ModelConfig
from dgin_tf.models.baselines.base_model import BaseModel
from dgin_tf.models.baselines.dmbin import DMBIN
from dgin_tf.models.baselines.dmt import DMT
from dgin_tf.models.baselines.dsin import DSIN
from dgin_tf.models.baselines.hidden_states import ARNN, GRU4Rec
from dgin_tf.models.baselines.long_din import AvgPoolingLongDIN, DINLong
from dgin_tf.models.baselines.ninn import NINN
from dgin_tf.models.baselines.pnn import PNN
from dgin_tf.models.baselines.rum import RUM
from dgin_tf.models.baselines.tem4ctr import TEM4CTR
from dgin_tf.models.baselines.wide_deep import WideDeep
from dgin_tf.models.dgin import DGIN, SIMTargetModule
from dgin_tf.models.dien import (
    DIEN,
    AGRUModel,
    AIGRUModel,
    AUGRUModel,
    TwoLayerGRUAttentionModel,
)
from dgin_tf.models.din import DIN
from dgin_tf.models.encode import ENCODE, ETAEncode, ETATargetAttention
from dgin_tf.models.eta import ETA
from dgin_tf.models.mimn import MIMN
from dgin_tf.models.rocket_launching import RocketLaunching
from dgin_tf.models.sdim import SDIM
from dgin_tf.models.sim import SIMHard, SIMHardFirstStage, SIMSoft, SIMSoftFirstStage
from dgin_tf.models.twin import TWIN
from dgin_tf.models.ubr4ctr import UBR4CTR
from dgin_tf.released.baselines import BaseModelReleased, PNNReleased, WideDeepReleased
from dgin_tf.released.dien import (
    AGRUReleased,
    AIGRUReleased,
    AUGRUReleased,
    DIENReleased,
    RocketLaunchingReleased,
    TwoLayerGRUAttentionReleased,
)
from dgin_tf.released.din import DINReleased
from dgin_tf.released.dsin import DSINReleased
from dgin_tf.released.hidden_states import ARNNReleased, GRU4RecReleased
from dgin_tf.released.mimn import MIMNReleased, RUMReleased
from dgin_tf.released.sim import SIMHardReleased, SIMSoftReleased
from dgin_tf.released.twin import TWINReleased
from dgin_tf.released.ubr4ctr import UBR4CTRReleased
from dgin_tf.schema import Schema

MODELS: dict[str, type[CTRModel]] = {
    "agru": AGRUModel,
    "aigru": AIGRUModel,
    "arnn": ARNN,
    "augru": AUGRUModel,
    "avg_pooling_long_din": AvgPoolingLongDIN,
    "base_model": BaseModel,
    "dgin": DGIN,
    "dien": DIEN,
    "din": DIN,
    "din_long": DINLong,
    "dmbin": DMBIN,
    "dmt": DMT,
    "dsin": DSIN,
    "encode": ENCODE,
    "eta": ETA,
    "eta_encode": ETAEncode,
    "eta_ta": ETATargetAttention,
    "gru4rec": GRU4Rec,
    "mimn": MIMN,
    "ninn": NINN,
    "pnn": PNN,
    "rocket_launching": RocketLaunching,
    "rum": RUM,
    "sdim": SDIM,
    "sim_hard": SIMHard,
    "sim_hard_first_stage": SIMHardFirstStage,
    "sim_soft": SIMSoft,
    "sim_soft_first_stage": SIMSoftFirstStage,
    "sim_tm": SIMTargetModule,
    "tem4ctr": TEM4CTR,
    "twin": TWIN,
    "two_layer_gru_attention": TwoLayerGRUAttentionModel,
    "ubr4ctr": UBR4CTR,
    "wide_deep": WideDeep,
    # The authors' released code, where it differs from the papers.
    "agru_released": AGRUReleased,
    "aigru_released": AIGRUReleased,
    "arnn_released": ARNNReleased,
    "augru_released": AUGRUReleased,
    "base_model_released": BaseModelReleased,
    "dien_released": DIENReleased,
    "din_released": DINReleased,
    "dsin_released": DSINReleased,
    "gru4rec_released": GRU4RecReleased,
    "mimn_released": MIMNReleased,
    "pnn_released": PNNReleased,
    "rocket_launching_released": RocketLaunchingReleased,
    "rum_released": RUMReleased,
    "two_layer_gru_attention_released": TwoLayerGRUAttentionReleased,
    "wide_deep_released": WideDeepReleased,
    # The authors' code of the searching models.
    "sim_hard_released": SIMHardReleased,
    "sim_soft_released": SIMSoftReleased,
    "twin_released": TWINReleased,
    "ubr4ctr_released": UBR4CTRReleased,
}


class Setting(NamedTuple):
    """A setting of a model, as a config file knows it.

    Attributes:
      default: None where the model decides.
      annotation: type of its values.
    """

    default: Any
    annotation: Any


def find(name: str) -> type[CTRModel]:
    """The class of a model; raises ValueError with all names where there is none such."""
    if name not in MODELS:
        raise ValueError(f"expected a model among {', '.join(sorted(MODELS))}; got {name!r}.")
    return MODELS[name]


def settings(name: str) -> dict[str, Setting]:
    """The settings of a model by name: its `Settings`, or its constructor's arguments.

    Example:

      >>> settings("rum")["slots"].default
      4
    """
    model = find(name)
    source = model.Settings or model
    annotations = typing.get_type_hints(model.Settings or model.__init__)
    return {
        parameter.name: Setting(parameter.default, annotations[parameter.name])
        for parameter in inspect.signature(source).parameters.values()
        if parameter.name not in ("schema", "config", "name")
    }


def make_model(
    name: str, schema: Schema, config: ModelConfig | None = None, **values: Any
) -> CTRModel:
    """Builds a model from flat settings.

    Args:
      name: of the model in `MODELS`.
      schema: the data.
      config: embedding and head.
      **values: settings that differ from the defaults, see `settings`.

    Raises:
      ValueError: there is no such model, or it has no such setting.
    """
    model, known_settings = find(name), settings(name)
    if unknown_settings := sorted(set(values) - set(known_settings)):
        raise ValueError(
            f"{name} has the settings {', '.join(known_settings)}; got {', '.join(unknown_settings)}."
        )
    if model.Settings is None:
        return model(schema, config=config, **values)
    return model.from_settings(schema, config, model.Settings(**values))
