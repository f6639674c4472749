"""ENCODE (Zhou et al., IEEE TKDE 2024) and the variants of ETA in its table 4.

The newest events are read by DIN, as the paper's "real-time" part; those before are clustered once a
user, and a candidate attends to the clusters. `encode_user` is the paper's offline stage and `score` its
online stage.
"""

import dataclasses

from dgin_tf.layers.dimension_reduction import DimensionReduction
from dgin_tf.layers.interest_clusters import InterestClusters
from dgin_tf.layers.search.reduced import InnerProductSearch, ReducedSearch
from dgin_tf.models.eta import multi_head_readers
from dgin_tf.models.short_and_long import ShortAndLongModel, ShortSettings
from dgin_tf.models.sim import SIM
from dgin_tf.ops.clustering import Clustering
from dgin_tf.ops.similarity import Relevance


@dataclasses.dataclass(frozen=True)
class ReductionSettings(ShortSettings):
    """Settings of the dimension reduction, and of what stands beside it.

    Attributes:
      dim: m, width of the reduced events.
      loss: of the dimension reduction, see `DimensionReduction`.
      sampling: of that loss, see there.
      anchors: of that loss, see there.
      auxiliary_weight: of that loss.
      seed: of draws and first centers.
    """

    dim: int = 4
    loss: str = "dynamic"
    sampling: str = "sequence"
    anchors: int | None = None
    auxiliary_weight: float = 0.1
    seed: int = 1


class ENCODE(ShortAndLongModel, registry_name="encode"):
    """Figure 2: DIN on the newest events, `InterestClusters` of those before."""

    @dataclasses.dataclass(frozen=True)
    class Settings(ReductionSettings):
        """Settings of the blocks.

        Attributes:
          clusters: K.
          beta: the scaling factor of Eq. (9).
          metric: of both attentions: "cosine" times beta; "printed", divided by beta as Eq. (9) stands; or
            "dot" for the scaled inner product of ENCODE-. See `Relevance`.
          stop_gradient: whether weights within clusters are constants, see `InterestClusters`.
          clustering: "k_means", "random", "dynamic_routing" or "agglomerative".
          rounds: T of K-means and dynamic routing.
        """

        clusters: int = 30
        beta: float = 20.0
        metric: str = "cosine"
        stop_gradient: bool = True
        clustering: str = "k_means"
        rounds: int = 15
        short_reader: str = "din"

    @classmethod
    def blocks(cls, schema, config, settings):
        """DIN and clusters."""
        reduction, rounds, seed = _dimension_reduction(settings), settings.rounds, settings.seed
        clustering = Clustering(settings.clusters, settings.clustering, rounds, seed)
        relevance = Relevance(settings.metric, settings.beta)
        long = InterestClusters(
            reduction, clustering, relevance, settings.stop_gradient, name="long"
        )
        return {"short": settings.short_encoder(), "long": long}


class ETAEncode(SIM, registry_name="eta_encode"):
    """ETA-ENCODE: ETA that searches by the cosine of reduced events."""

    @dataclasses.dataclass(frozen=True)
    class Settings(ReductionSettings):
        """Settings of the blocks.

        Attributes:
          k: how many events are retrieved at most.
        """

        k: int = 50

    @classmethod
    def blocks(cls, schema, config, settings):
        """Search by reduced events, and ETA's attentions."""
        search = ReducedSearch(settings.k, _dimension_reduction(settings), name="search")
        return {"search": search, **multi_head_readers(settings)}


class ETATargetAttention(SIM, registry_name="eta_ta"):
    """ETA-TA: ETA that searches by the inner products of the embeddings themselves."""

    @dataclasses.dataclass(frozen=True)
    class Settings(ShortSettings):
        """Settings of the blocks.

        Attributes:
          k: how many events are retrieved at most.
        """

        k: int = 50

    @classmethod
    def blocks(cls, schema, config, settings):
        """Search by inner products, and ETA's attentions."""
        search = InnerProductSearch(settings.k, name="search")
        return {"search": search, **multi_head_readers(settings)}


def _dimension_reduction(settings):
    return DimensionReduction(
        settings.dim,
        settings.loss,
        settings.sampling,
        settings.auxiliary_weight,
        settings.anchors,
        settings.seed,
        name="reduction",
    )
