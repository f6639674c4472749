"""Name -> class of every model, for configs and command lines."""

from dgin_tf.models.base import CTRModel
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
}
