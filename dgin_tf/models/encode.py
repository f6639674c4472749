"""ENCODE (Zhou et al., IEEE TKDE 2024) and the variants of ETA in its table 4.

The newest events are read by DIN, as the paper's "real-time" part; those before are clustered once a
user, and a candidate attends to the clusters. `encode_user` is the paper's offline stage and `score` its
online stage.
"""

import tensorflow as tf

from dgin_tf.layers.dimension_reduction import DimensionReduction
from dgin_tf.layers.interest_clusters import InterestClusters
from dgin_tf.layers.search.reduced import InnerProductSearch, ReducedSearch
from dgin_tf.layers.short_and_long import ShortAndLong
from dgin_tf.models.base import CTRModel, ModelConfig
from dgin_tf.models.eta import searched_history
from dgin_tf.models.sim import din_history
from dgin_tf.schema import Schema


@tf.keras.utils.register_keras_serializable("dgin_tf")
class ENCODE(CTRModel):
    """Figure 2.

    Args:
      schema: the data.
      config: embedding and head.
      clusters: K.
      dim: m, width of the reduced events.
      beta: the scaling factor of Eq. (9).
      multiply: whether similarities are multiplied by beta; Eq. (9) divides.
      metric: of both attentions: "cosine", or "dot" for the scaled inner product of ENCODE-.
      loss: of the dimension reduction, see `DimensionReduction`.
      sampling: of that loss, see there.
      anchors: of that loss, see there.
      auxiliary_weight: of that loss.
      clustering: "k_means", "random", "dynamic_routing" or "agglomerative".
      rounds: T of K-means and dynamic routing.
      short_events: how many of the newest events DIN reads; the others are clustered.
      softmax: whether DIN's weights are normalized.
      seed: of draws and first centers.
    """

    def __init__(
        self,
        schema: Schema,
        config: ModelConfig | None = None,
        clusters: int = 30,
        dim: int = 4,
        beta: float = 20.0,
        multiply: bool = False,
        metric: str = "cosine",
        loss: str = "dynamic",
        sampling: str = "sequence",
        anchors: int | None = None,
        auxiliary_weight: float = 0.1,
        clustering: str = "k_means",
        rounds: int = 15,
        short_events: int = 50,
        softmax: bool = False,
        seed: int = 1,
    ):
        reduction = DimensionReduction(
            dim, loss, sampling, auxiliary_weight, anchors, seed, name="reduction"
        )
        long = InterestClusters(
            reduction, clusters, clustering, rounds, seed, metric, beta, multiply, name="long"
        )
        interest = ShortAndLong(din_history(softmax), long, short_events, name="interest")
        super().__init__(schema, {"interest": interest}, config, name="encode")


@tf.keras.utils.register_keras_serializable("dgin_tf")
class ETAEncode(CTRModel):
    """ETA-ENCODE: ETA that searches by the cosine of reduced events.

    Args:
      schema: the data.
      config: embedding and head.
      k: how many events the search finds.
      dim: m, width of the reduced events.
      loss, sampling, anchors, auxiliary_weight: of the reduction, as for `ENCODE`.
      heads: of both attentions.
      short_events: how many of the newest events are read one by one.
      seed: of the loss's draws.
    """

    def __init__(
        self,
        schema: Schema,
        config: ModelConfig | None = None,
        k: int = 50,
        dim: int = 4,
        loss: str = "dynamic",
        sampling: str = "sequence",
        anchors: int | None = None,
        auxiliary_weight: float = 0.1,
        heads: int = 2,
        short_events: int = 50,
        seed: int = 1,
    ):
        reduction = DimensionReduction(
            dim, loss, sampling, auxiliary_weight, anchors, seed, name="reduction"
        )
        interest = searched_history(ReducedSearch(k, reduction, name="search"), heads, short_events)
        super().__init__(schema, {"interest": interest}, config, name="eta_encode")


@tf.keras.utils.register_keras_serializable("dgin_tf")
class ETATargetAttention(CTRModel):
    """ETA-TA: ETA that searches by the inner products of the embeddings themselves.

    Args:
      schema: the data.
      config: embedding and head.
      k: how many events the search finds.
      heads: of both attentions.
      short_events: how many of the newest events are read one by one.
    """

    def __init__(
        self,
        schema: Schema,
        config: ModelConfig | None = None,
        k: int = 50,
        heads: int = 2,
        short_events: int = 50,
    ):
        interest = searched_history(InnerProductSearch(k, name="search"), heads, short_events)
        super().__init__(schema, {"interest": interest}, config, name="eta_ta")
