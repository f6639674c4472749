"""What every layer of the package must be able to do, whatever it computes."""

import functools
import json

import numpy as np
import pytest
import tensorflow as tf

from dgin_tf.group_spec import GAP, StatisticsSpec
from dgin_tf.layers.activations import Dice, Elementwise, PReLU
from dgin_tf.layers.aligned_events import AlignedEvents
from dgin_tf.layers.auxiliary_loss import AuxiliaryLoss, click_net
from dgin_tf.layers.configured import ConfiguredLayer, KernelLayer
from dgin_tf.layers.crosses import HistoryCross
from dgin_tf.layers.deep_interest_transformer import DeepInterestTransformer
from dgin_tf.layers.dimension_reduction import DimensionReduction
from dgin_tf.layers.dual_interest import ContrastProjection, DualInterest
from dgin_tf.layers.embedding import FeatureEmbedding
from dgin_tf.layers.event_attributes import EventAttributes
from dgin_tf.layers.events import History, Target
from dgin_tf.layers.group_statistics import GroupStatistics
from dgin_tf.layers.groups import GroupAggregation, GroupModule
from dgin_tf.layers.hidden_states import AttendedHiddenStates, LastHiddenState
from dgin_tf.layers.interest_clusters import InterestClusters
from dgin_tf.layers.interest_encoder import LOSSES, InterestEncoder
from dgin_tf.layers.interest_evolution import InterestEvolution, TwoLayerGRUAttention
from dgin_tf.layers.memory.ntm import (
    MemoryInduction,
    MultiChannelMemory,
    TuringMemory,
    UtilizationRegularization,
)
from dgin_tf.layers.memory.recurrent_memory import RecurrentMemory
from dgin_tf.layers.memory.rum import KeyedMemory, UserMemory
from dgin_tf.layers.multi_head_attention import MultiHeadAttention
from dgin_tf.layers.multi_head_history import MultiHeadHistory
from dgin_tf.layers.normalization import BatchNorm, LayerNorm, MovingMoments
from dgin_tf.layers.partitioned_interest import PartitionedInterest
from dgin_tf.layers.pooling import Pooling
from dgin_tf.layers.positions import LearnedPositions
from dgin_tf.layers.product import ProductLayer
from dgin_tf.layers.recurrent import AGRU, AIGRU, AUGRU, GRU
from dgin_tf.layers.search.alsh import ALSHSearch, AsymmetricHash
from dgin_tf.layers.search.eta import SimHashSearch
from dgin_tf.layers.search.hard import HardSearch
from dgin_tf.layers.search.random_hyperplanes import RandomHyperplanes
from dgin_tf.layers.search.readers import ExactSearchUnit, MeanReader
from dgin_tf.layers.search.reduced import InnerProductSearch, ReducedSearch
from dgin_tf.layers.search.sdim import HashedInterest
from dgin_tf.layers.search.soft import BilinearQuery, SoftSearch
from dgin_tf.layers.search.twin import ConsistentInterest, CrossFeature
from dgin_tf.layers.search.ubr4ctr import AttributeSearch, FeatureSelection
from dgin_tf.layers.search.unit import RetrievedEvents, SearchedInterest, SearchUnit
from dgin_tf.layers.self_attention import (
    MultiHeadSelfAttention,
    ResidualFeedForward,
    SelfAttentionEncoder,
)
from dgin_tf.layers.sessions.bi_lstm import BiLSTM
from dgin_tf.layers.sessions.bias_encoding import BiasEncoding
from dgin_tf.layers.sessions.session_interest import SessionInterest
from dgin_tf.layers.sessions.transformer import SessionTransformer
from dgin_tf.layers.short_and_long import ShortAndLong
from dgin_tf.layers.state_attention import BilinearAttention, ProjectedAttention
from dgin_tf.layers.target_attention import (
    ActivationUnit,
    AttendedHistory,
    QueryProjection,
    TargetAttention,
)
from dgin_tf.layers.target_module import TargetModule
from dgin_tf.layers.time_gap import GapEmbedding
from dgin_tf.layers.tower import Tower
from dgin_tf.ops.clustering import Clustering
from dgin_tf.ops.relevance import relevance
from dgin_tf.ops.similarity import Relevance
from dgin_tf.released.dien import ReleasedAuxiliaryLoss
from dgin_tf.released.dsin import ReleasedSessionInterest, ReleasedSessionTransformer
from dgin_tf.released.head import ReleasedDice
from dgin_tf.released.hidden_states import ReleasedAttendedHiddenStates, ReleasedLastHiddenState
from dgin_tf.released.memory import ReleasedMemoryInterest, ReleasedStep, ReleasedTuringMemory
from dgin_tf.released.recurrent import ReleasedAGRU, ReleasedAIGRU, ReleasedAUGRU, ReleasedGRU
from dgin_tf.released.sim import ReleasedExactSearchUnit, ReleasedSoftSearch
from dgin_tf.released.twin import ReleasedConsistentInterest
from dgin_tf.schema import BEHAVIOR_TYPE, FIRST_ID
from tests.conformance.catalogue import (
    BACKBONE,
    CANDIDATES,
    TIME,
    USERS_IN_BATCH,
    batch,
    public_layers,
)
from tests.prepared import make_schema

DIM, UNITS, TYPES = 6, 5, 3


def tensors():
    """Inputs of every kind, by the names that the catalogue's calls use."""
    random = np.random.default_rng(0)

    def normal(*shape):
        return tf.constant(random.normal(size=shape), tf.float32)

    features = batch()
    mask = features["hist_mask"]
    return {
        "rows": normal(17, DIM),
        "events": tf.where(mask[..., None], normal(USERS_IN_BATCH, TIME, DIM), 0.0),
        "mask": mask,
        "target": normal(USERS_IN_BATCH, CANDIDATES, DIM),
        "scores": tf.constant(random.random((USERS_IN_BATCH, CANDIDATES, TIME)), tf.float32),
        "fields": normal(USERS_IN_BATCH, CANDIDATES, 4, DIM),
        "features": features,
    }


def through_encoder(layer, x):
    """An encoder's interest, on embedded inputs."""
    past, ahead = (
        {name.removeprefix(prefix): value for name, value in x["features"].items()}
        for prefix in ("hist_", "cand_")
    )
    history = History(x["events"], x["mask"], past)
    return layer(Target(x["target"], x["features"]["cand_mask"], ahead), history)["interest"]


@functools.cache
def embedding_of(precision):
    """An embedding that computes in a precision; its tables are the same every time."""
    embedding = FeatureEmbedding(make_schema(), BACKBONE.embedding_dim, dtype=precision)
    for table in embedding.tables.values():
        table.assign(tf.reshape(tf.sin(tf.range(tf.size(table), dtype=tf.float32)), table.shape))
    return embedding


def through_embedding(layer, x):
    """An encoder's interest, where it embeds ids itself."""
    embedding = embedding_of(layer.dtype_policy.name)
    history, target = embedding.history(x["features"]), embedding.target(x["features"])
    return layer(target, history)["interest"]


def by_types(layer, x):
    """An encoder's interest, where it reads the behavior types of events, and its losses."""
    embedding = embedding_of(layer.dtype_policy.name)
    history, target = embedding.history(x["features"]), embedding.target(x["features"])
    types = {BEHAVIOR_TYPE: x["features"]["hist_behavior_type"]}
    outputs = layer(target, history._replace(features={**history.features, **types}))
    losses = [loss[:, tf.newaxis, tf.newaxis] for loss in outputs[LOSSES].values()]
    return tf.concat([outputs["interest"], *(loss + outputs["interest"] for loss in losses)], -1)


def foreseeing(layer, x):
    """An encoder's loss with a negative for every event."""
    history = History(x["events"], x["mask"], negatives=x["events"][:, ::-1])
    return layer(Target(x["target"], x["features"]["cand_mask"]), history)[LOSSES]["auxiliary"]


def reduction_loss(layer, x):
    """The loss of a dimension reduction."""
    return layer.loss(x["events"], x["mask"])


def auxiliary_logits(layer, x):
    """Logits of the click prediction by which a search learns, on sampled events if there are some."""
    embedding = embedding_of(layer.dtype_policy.name)
    history, target = embedding.history(x["features"]), embedding.target(x["features"])
    return layer(target, history).outputs["auxiliary_logits"]


def through_search(layer, x):
    """What a unit finds, as a mean."""
    encoder = SearchedInterest(layer, MeanReader(), dtype=layer.dtype_policy)
    return through_embedding(encoder, x)


def reading(layer, x):
    """What a reader makes of found events."""
    events = tf.repeat(x["events"][:, None], CANDIDATES, axis=1)
    mask = tf.repeat(x["mask"][:, None], CANDIDATES, axis=1)
    gaps = tf.repeat(x["features"]["hist_timestamp"][:, None], CANDIDATES, axis=1)
    return layer(x["target"], RetrievedEvents(events, mask, gaps))["interest"]


def attributes_of(x):
    """Raw attributes of events."""
    times = x["features"]["hist_timestamp"]
    return {GAP: times, BEHAVIOR_TYPE: tf.cast(times % TYPES, tf.int32)}


def folded(layer, x):
    """What a memory holds after the events."""
    return layer(x["events"], x["mask"])[0]["memory"]


def inducing(layer, x):
    """Channels after one event."""
    channels = tf.ones([USERS_IN_BATCH, CANDIDATES, layer.units])
    weights = tf.nn.softmax(x["target"][..., 0])
    return layer(channels, x["target"], x["events"][:, 0], weights)


# Class -> (settings, call). A public layer without an entry fails the catalogue's test.
CATALOGUE = {
    Dice: ({}, lambda layer, x: layer(x["rows"])),
    ReleasedDice: ({}, lambda layer, x: layer(x["rows"])),
    Elementwise: ({"function": "relu"}, lambda layer, x: layer(x["rows"])),
    PReLU: ({}, lambda layer, x: layer(x["rows"])),
    BatchNorm: ({"momentum": 0.5}, lambda layer, x: layer(x["rows"])),
    LayerNorm: ({"epsilon": 0.5}, lambda layer, x: layer(x["events"])),
    MovingMoments: ({"momentum": 0.5}, lambda layer, x: layer(x["rows"])[0]),
    Tower: (
        {"units": (UNITS,), "two_way": True, "momentum": 0.5},
        lambda layer, x: layer(x["target"]),
    ),
    ProductLayer: ({"units": UNITS, "order": 2}, lambda layer, x: layer(x["fields"])),
    ActivationUnit: (
        {"units": (UNITS,)},
        lambda layer, x: layer(x["target"], x["events"]),
    ),
    QueryProjection: ({"dim": UNITS}, lambda layer, x: layer(x["target"])),
    TargetAttention: (
        {"softmax": True},
        lambda layer, x: layer(x["target"], x["events"], x["mask"]),
    ),
    MultiHeadAttention: (
        {"heads": 3, "key_dim": UNITS},
        lambda layer, x: layer(x["target"], x["events"], x["mask"])[0],
    ),
    GRU: ({"units": UNITS}, lambda layer, x: layer(x["events"], x["mask"])[1]),
    AIGRU: ({"units": UNITS}, lambda layer, x: layer(x["events"], x["scores"], x["mask"])),
    AGRU: ({"units": UNITS}, lambda layer, x: layer(x["events"], x["scores"], x["mask"])),
    AUGRU: ({"units": UNITS}, lambda layer, x: layer(x["events"], x["scores"], x["mask"])),
    ReleasedGRU: ({"units": UNITS}, lambda layer, x: layer(x["events"], x["mask"])[1]),
    ReleasedAIGRU: ({"units": UNITS}, lambda layer, x: layer(x["events"], x["scores"], x["mask"])),
    ReleasedAGRU: ({"units": UNITS}, lambda layer, x: layer(x["events"], x["scores"], x["mask"])),
    ReleasedAUGRU: ({"units": UNITS}, lambda layer, x: layer(x["events"], x["scores"], x["mask"])),
    AuxiliaryLoss: (
        {"weight": 0.5, "score": click_net(), "reduce": "mean_valid"},
        lambda layer, x: layer(x["events"], x["events"], x["events"][:, ::-1], x["mask"]),
    ),
    ReleasedAuxiliaryLoss: (
        {"weight": 0.5},
        lambda layer, x: layer(x["events"], x["events"], x["events"][:, ::-1], x["mask"]),
    ),
    BilinearAttention: (
        {"units": DIM},
        lambda layer, x: layer(x["target"], x["events"], x["mask"]),
    ),
    ProjectedAttention: (
        {"units": DIM, "hidden_units": (UNITS, 3)},
        lambda layer, x: layer(x["target"], x["events"], x["mask"]),
    ),
    InterestEvolution: (
        {"extractor": GRU(UNITS), "attention": BilinearAttention(UNITS), "cell": AUGRU(UNITS)},
        through_encoder,
    ),
    TwoLayerGRUAttention: ({"first": GRU(DIM), "second": GRU(UNITS)}, through_encoder),
    AttendedHistory: ({}, through_encoder),
    Pooling: ({"mean": True, "product": True}, through_encoder),
    HistoryCross: ({"fields": ["item_id", "category_id"], "buckets": 31}, through_embedding),
    HardSearch: ({"k": 3, "field": "item_id", "backfill": True}, through_search),
    SoftSearch: ({"k": 3, "dim": UNITS, "sample": 2}, through_search),
    BilinearQuery: ({"dim": UNITS}, lambda layer, x: layer(x["target"])),
    ReleasedSoftSearch: ({"k": 3}, through_search),
    AsymmetricHash: (
        {"tables": 3, "hashes": 2},
        lambda layer, x: layer(x["events"], x["mask"]),
    ),
    ALSHSearch: ({"k": 3, "hashing": AsymmetricHash(3, 2, signs=True)}, through_search),
    SearchedInterest: (
        {"unit": HardSearch(3), "reader": MeanReader(), "times": True},
        through_embedding,
    ),
    ExactSearchUnit: ({"gap_embedding": GapEmbedding(3)}, reading),
    MeanReader: ({}, reading),
    ReleasedExactSearchUnit: ({}, reading),
    GapEmbedding: ({"dim": UNITS}, lambda layer, x: layer(x["features"]["hist_timestamp"])),
    ShortAndLong: (
        {"short": AttendedHistory(), "long": Pooling(mean=True), "short_events": 2},
        through_embedding,
    ),
    MultiHeadHistory: ({}, through_encoder),
    RandomHyperplanes: ({"bits": 11}, lambda layer, x: layer(x["rows"])),
    SimHashSearch: ({"k": 3, "bits": 70}, through_search),
    HashedInterest: ({"bits": 10, "tau": 2}, through_encoder),
    DimensionReduction: (
        {"dim": 3, "loss": "n_pair", "sampling": "batch", "anchors": 2},
        lambda layer, x: layer(x["events"]),
    ),
    InterestClusters: (
        {
            "reduction": DimensionReduction(2),
            "clustering": Clustering(3, rounds=4),
            "relevance": Relevance("printed", 0.5),
        },
        through_encoder,
    ),
    ReducedSearch: ({"k": 3, "reduction": DimensionReduction(3)}, through_search),
    InnerProductSearch: ({"k": 3}, through_search),
    CrossFeature: (
        {"buckets": TIME, "heads": 3},
        lambda layer, x: layer(tf.argsort(x["scores"])),
    ),
    ConsistentInterest: ({"k": 3, "times": True}, through_embedding),
    ReleasedConsistentInterest: ({"k": 3}, through_embedding),
    FeatureSelection: ({"heads": 3}, lambda layer, x: layer(x["fields"])),
    AttributeSearch: (
        {"fields": ["item_id", "category_id"], "k": 3, "policy": FeatureSelection(heads=3)},
        through_search,
    ),
    MultiHeadSelfAttention: ({"heads": 3}, lambda layer, x: layer(x["events"], x["mask"])),
    ResidualFeedForward: ({"expansion": 2}, lambda layer, x: layer(x["events"])),
    SelfAttentionEncoder: ({"heads": 3}, lambda layer, x: layer(x["events"], x["mask"])),
    EventAttributes: (
        {"dim": UNITS, "behavior_types": TYPES, "side_features": {"location": TYPES}},
        lambda layer, x: layer({**attributes_of(x), "location": attributes_of(x)[BEHAVIOR_TYPE]}),
    ),
    GroupStatistics: (
        {
            "statistics": StatisticsSpec(distinct=("item_id",)),
            "dim": UNITS,
            "bin_boundaries": {"count": [1, 3]},
        },
        lambda layer, x: layer(
            {"count": tf.argsort(x["scores"])[0], "distinct_item_id": tf.argsort(x["scores"])[1]},
            tf.argsort(x["scores"])[0] > 0,
        ),
    ),
    GroupAggregation: (
        {"heads": 3, "fast": False},
        lambda layer, x: layer(x["events"], x["mask"]),
    ),
    GroupModule: (
        {
            "key": "category_id",
            "groups": 5,
            "events": 3,
            "statistics": GroupStatistics(StatisticsSpec(distinct=("item_id",)), 3),
            "attributes": EventAttributes(3),
            "aggregation": GroupAggregation(),
        },
        through_embedding,
    ),
    TargetModule: ({"attributes": EventAttributes(3), "heads": 3}, reading),
    UtilizationRegularization: (
        {"weight": 0.5},
        lambda layer, x: layer(x["target"][:, 0], 3.0 * x["target"][:, 1] ** 2),
    ),
    MemoryInduction: ({"units": UNITS, "k": 2}, inducing),
    TuringMemory: (
        {"slots": 3, "dim": UNITS, "units": 4, "utilization": UtilizationRegularization()},
        folded,
    ),
    MultiChannelMemory: (
        {"memory": TuringMemory(3, UNITS, None, None, MemoryInduction(4, 2))},
        through_encoder,
    ),
    ReleasedTuringMemory: (
        {"step": ReleasedStep(DIM, 2, 2, balances=True), "slots": 3, "output_units": 4},
        folded,
    ),
    ReleasedMemoryInterest: (
        {"memory": ReleasedTuringMemory(ReleasedStep(DIM, induces=True), 3, UNITS)},
        through_encoder,
    ),
    KeyedMemory: ({"slots": 3, "strength": 2.0}, folded),
    UserMemory: ({"memory": KeyedMemory(3)}, through_encoder),
    LastHiddenState: ({"gru": GRU(UNITS)}, through_encoder),
    AttendedHiddenStates: ({"gru": GRU(DIM)}, through_encoder),
    ReleasedLastHiddenState: ({"gru": ReleasedGRU(UNITS)}, through_encoder),
    ReleasedAttendedHiddenStates: ({"gru": ReleasedGRU(DIM)}, through_encoder),
    AlignedEvents: ({"clicks": 3, "units": (UNITS,)}, through_embedding),
    DeepInterestTransformer: ({"events": 3, "heads": 3}, through_embedding),
    PartitionedInterest: ({"dim": DIM, "parts": 3, "heads": 3}, through_embedding),
    ContrastProjection: ({}, lambda layer, x: layer(x["events"])),
    DualInterest: ({"lengths": (3,), "heads": 3}, through_embedding),
    LearnedPositions: ({}, lambda layer, x: layer(x["events"])),
    BiasEncoding: ({}, lambda layer, x: layer(x["events"][:, tf.newaxis])),
    SessionTransformer: (
        {"heads": 3, "scale_by_head": True},
        lambda layer, x: layer(x["events"][:, tf.newaxis], x["mask"][:, tf.newaxis]),
    ),
    ReleasedSessionTransformer: (
        {"heads": 3, "blinding": False, "positions": True, "layer_norm": True},
        lambda layer, x: layer(x["events"][:, tf.newaxis], x["mask"][:, tf.newaxis]),
    ),
    BiLSTM: (
        {"units": UNITS, "layers": 2, "merge": "sum", "residual_layers": 1},
        lambda layer, x: layer(x["events"], x["mask"]),
    ),
    SessionInterest: (
        {
            "extractor": SessionTransformer(3),
            "interacting": BiLSTM(UNITS, peepholes=False),
            "attentions": (BilinearAttention(DIM), BilinearAttention(2 * UNITS)),
            "encoding": BiasEncoding(),
            "sessions": 4,
            "events": 3,
            "gap": 200_000,
        },
        through_embedding,
    ),
    ReleasedSessionInterest: (
        {
            "extractor": ReleasedSessionTransformer(3),
            "interacting": BiLSTM(UNITS, merge="mean"),
            "attentions": (BilinearAttention(DIM), BilinearAttention(UNITS)),
            "sessions": 4,
            "events": 3,
            "gap": 200_000,
        },
        through_embedding,
    ),
    FeatureEmbedding: (
        {"schema": make_schema(), "dim": BACKBONE.embedding_dim, "user_fields": ["user_id"]},
        lambda layer, x: layer.target(x["features"]).embedding,
    ),
}
INITIALIZERS = {"recurrent_initializer": "he_normal"}
# (Class, settings[, call]) of further entries: with those above they set every option of every layer
# to another value than its default, and every value that has a name of its own. A new option without
# an entry fails test_options.py.
OPTIONS = [
    (Dice, {"epsilon": 0.1, "momentum": 0.5}),
    (BatchNorm, {"affine_only": True, "epsilon": 0.1}),
    (
        Tower,
        {
            "units": (UNITS,),
            "activation": Dice(epsilon=0.1),
            "normalization": "affine_only",
        },
    ),
    (Tower, {"units": (UNITS,), "activation": "prelu", "normalization": "none"}),
    (ProductLayer, {"units": UNITS, "products": "outer"}),
    (ProductLayer, {"units": UNITS, "products": "both", "bias_initializer": "ones"}),
    (ProductLayer, {"units": UNITS, "bias_regularizer": "l2"}),
    (ActivationUnit, {"units": (UNITS, 3), "activation": "prelu"}),
    (TargetAttention, {"unit": ActivationUnit((UNITS,)), "softmax": True, "scale": True}),
    (MultiHeadAttention, {"project": False, "scale": False, "offset": 3}),
    (MultiHeadAttention, {"similar_start": False}),
    (GRU, {"units": UNITS, "recurrent_bias": True, **INITIALIZERS}),
    (GRU, {"units": UNITS, "reset_after": False, "jit_compile": True}),
    *(
        (cell, {"units": UNITS, **settings})
        for cell in (AIGRU, AGRU, AUGRU)
        for settings in (
            {"recurrent_bias": True, **INITIALIZERS},
            {"reset_after": False, "jit_compile": cell is AUGRU},
        )
    ),
    *(
        (cell, {"units": UNITS, "reset_after": True, "recurrent_initializer": "he_normal"})
        for cell in (ReleasedGRU, ReleasedAIGRU, ReleasedAGRU, ReleasedAUGRU)
    ),
    (AuxiliaryLoss, {}),
    (ReleasedAuxiliaryLoss, {"score": Tower((UNITS,))}),
    (BilinearAttention, {"units": DIM, "softmax": False}),
    (
        ProjectedAttention,
        {"units": DIM, "hidden_units": (UNITS,), "activation": "dice", "softmax": False},
    ),
    (
        InterestEvolution,
        {
            "extractor": GRU(DIM),
            "attention": BilinearAttention(DIM),
            "cell": AUGRU(DIM),
            "auxiliary_loss": AuxiliaryLoss(),
        },
        foreseeing,
    ),
    (
        TwoLayerGRUAttention,
        {"first": GRU(DIM), "second": GRU(UNITS), "attention": BilinearAttention(UNITS)},
    ),
    (AttendedHistory, {"attention": TargetAttention(ActivationUnit((UNITS,)), softmax=True)}),
    (Pooling, {"mean": True, "count_padding": True}, through_embedding),
    (SoftSearch, {"k": 3, "network": Tower((UNITS,)), "auxiliary_weight": 0.5}, auxiliary_logits),
    (ReleasedSoftSearch, {"k": 3, "network": Tower((UNITS,))}, auxiliary_logits),
    (AsymmetricHash, {"tables": 3, "hashes": 2, "signs": True, "seed": 2}),
    (ALSHSearch, {"k": 3, "hashing": AsymmetricHash(3, 2), "bucket": 2, "fallback": False}),
    (SearchedInterest, {"unit": HardSearch(3), "reader": MeanReader(), "sparse": True}),
    (ExactSearchUnit, {"attention": MultiHeadAttention(3)}),
    (MultiHeadHistory, {"attention": MultiHeadAttention(3, scale=False)}),
    (RandomHyperplanes, {"bits": 11, "seed": 2}),
    (SimHashSearch, {"k": 3, "bits": 7, "seed": 2}),
    (HashedInterest, {"bits": 6, "tau": 3, "norm": "count", "seed": 2}),
    (HashedInterest, {"bits": 6, "tau": 2, "norm": "none"}),
    (
        DimensionReduction,
        {"loss": "fixed", "sampling": "neighbors", "weight": 0.5, "seed": 2},
        reduction_loss,
    ),
    (DimensionReduction, {}, reduction_loss),
    (DimensionReduction, {"loss": "n_pair", "sampling": "batch"}, reduction_loss),
    (DimensionReduction, {"loss": "mse", "anchors": 2}, reduction_loss),
    (DimensionReduction, {"loss": "none"}),
    (
        InterestClusters,
        {
            "clustering": Clustering(3, "random", seed=2),
            "relevance": Relevance(beta=0.5),
        },
    ),
    (
        InterestClusters,
        {"clustering": Clustering(3, "dynamic_routing"), "relevance": Relevance("dot")},
    ),
    (InterestClusters, {"clustering": Clustering(3, "agglomerative")}),
    (InterestClusters, {"clustering": Clustering(3), "stop_gradient": False}),
    (CrossFeature, {"buckets": TIME, "heads": 3, "dim": 2}),
    (
        ConsistentInterest,
        {"attention": MultiHeadAttention(3), "k": 3, "behavior_types": FIRST_ID + TYPES},
        by_types,
    ),
    (ReleasedConsistentInterest, {"attention": MultiHeadAttention(3), "k": 3}),
    (FeatureSelection, {"heads": 3, "units": (UNITS,)}),
    (
        AttributeSearch,
        {"fields": ["item_id", "category_id"], "k": 3, "policy": FeatureSelection(3), "seed": 2},
    ),
    (EventAttributes, {"dim": UNITS, "times": False, "behavior_types": TYPES}),
    (
        GroupStatistics,
        {"statistics": StatisticsSpec(distinct=("item_id",)), "dim": UNITS, "num_bins": 3},
    ),
    (GroupModule, {"attention": MultiHeadAttention(3)}),
    (
        UtilizationRegularization,
        {"weight": 0.5},
        lambda layer, x: layer.loss(layer(x["target"][:, 0], 3.0 * x["target"][:, 1] ** 2)),
    ),
    (
        UtilizationRegularization,
        {"normalize_usage": True, "stop_gradient": True},
        lambda layer, x: layer(x["target"][:, 0], 3.0 * x["target"][:, 1] ** 2),
    ),
    (MemoryInduction, {"units": UNITS, "k": 2, **INITIALIZERS}),
    (
        TuringMemory,
        {
            "slots": 3,
            "dim": UNITS,
            "sharpness": None,
            "induction": MemoryInduction(4, 2),
            "memory_initializer": "he_normal",
        },
    ),
    (
        MultiChannelMemory,
        {
            "memory": TuringMemory(3, DIM, induction=MemoryInduction(4)),
            "attention": BilinearAttention(4),
            "auxiliary_loss": AuxiliaryLoss(),
        },
        foreseeing,
    ),
    (ReleasedTuringMemory, {"step": ReleasedStep(DIM, clears=True), "units": UNITS}),
    (
        ReleasedMemoryInterest,
        {
            "memory": ReleasedTuringMemory(ReleasedStep(DIM, balances=True), 3, UNITS, DIM),
            "utilization_weight": 0.5,
            "auxiliary_loss": AuxiliaryLoss(),
        },
        foreseeing,
    ),
    (KeyedMemory, {"slots": 3, "key_initializer": "he_normal"}),
    (AttendedHiddenStates, {"gru": GRU(DIM), "attention": BilinearAttention(DIM)}),
    (
        ReleasedAttendedHiddenStates,
        {"gru": ReleasedGRU(DIM), "attention": BilinearAttention(DIM)},
    ),
    (
        AlignedEvents,
        {
            "click_types": (FIRST_ID,),
            "other_types": (FIRST_ID + 1, FIRST_ID + 2),
            "clicks": 3,
            "nearest": 2,
            "units": (UNITS,),
        },
        by_types,
    ),
    (DeepInterestTransformer, {"types": (FIRST_ID,), "events": 3, "heads": 3}, by_types),
    (
        PartitionedInterest,
        {"dim": DIM, "key": "category_id", "field": "item_id", "parts": 3, "units": (UNITS,)},
    ),
    (
        DualInterest,
        {
            "types": ((FIRST_ID,), (FIRST_ID + 1,)),
            "lengths": (3, 2),
            "heads": 3,
            "weight": 0.5,
            "temperature": 0.5,
        },
        by_types,
    ),
    (
        BiLSTM,
        {
            "units": UNITS,
            "peepholes": False,
            "merge": "mean",
            **INITIALIZERS,
        },
    ),
    (BiLSTM, {}),
    (
        ReleasedSessionInterest,
        {
            "extractor": ReleasedSessionTransformer(3),
            "interacting": BiLSTM(UNITS),
            "attentions": (BilinearAttention(DIM), BilinearAttention(2 * UNITS)),
            "encoding": BiasEncoding(),
            "sessions": 4,
            "events": 3,
        },
    ),
    (
        FeatureEmbedding,
        {"schema": make_schema(), "initializer": "he_normal", "mini_batch_l2": 0.5},
        lambda layer, x: layer.penalty(x["features"]),
    ),
]

# The released search has no cross features, whose kernels these would be.
KERNEL_LAYERS = [
    kind
    for kind in CATALOGUE
    if issubclass(kind, KernelLayer) and kind is not ReleasedConsistentInterest
]
KERNELS = {"kernel_initializer": "he_normal", "kernel_regularizer": "l2"}
OPTIONS += [(kind, {**CATALOGUE[kind][0], **KERNELS}) for kind in KERNEL_LAYERS]

# Layers' kernels whose product is a score, by name.
SCORE_KERNELS = {
    "query_kernel": "key_kernel",
    "target_kernel": "event_kernel",
    "query": "key",
}
# Those that start apart: the authors', and self-attention (BUILD_NOTES.md).
RANDOM_SCORES = {
    ReleasedSessionTransformer,
    SessionTransformer,
    FeatureSelection,
    MultiHeadSelfAttention,
}


def entries_of(kind):
    """(settings, call) of a class's entries in both tables."""
    settings, call = CATALOGUE[kind]
    yield settings, call
    for owner, settings, *own_call in OPTIONS:
        if owner is kind:
            yield settings, own_call[0] if own_call else call


# Name -> (class, settings, call) of all entries; those of options are numbered.
ENTRIES = {
    f"{kind.__name__}-{number}" if number else kind.__name__: (kind, *entry)
    for kind in CATALOGUE
    for number, entry in enumerate(entries_of(kind))
}
every_entry = pytest.mark.parametrize("entry", ENTRIES)
every_layer = pytest.mark.parametrize("kind", CATALOGUE, ids=lambda kind: kind.__name__)


def test_the_catalogue_holds_every_public_layer():
    wanted = set(public_layers().values()) - {
        ConfiguredLayer,
        KernelLayer,
        InterestEncoder,
        SearchUnit,
        RecurrentMemory,
    }
    assert wanted == set(CATALOGUE)


@functools.cache
def made(entry):
    """A built layer and what it gives, once a process."""
    kind, settings, call = ENTRIES[entry]
    layer = kind(**settings)
    return layer, call(layer, tensors())


@every_entry
def test_a_layer_rebuilt_from_its_config_computes_the_same(entry):
    (kind, _, call), x, (layer, expected) = ENTRIES[entry], tensors(), made(entry)
    config = json.loads(json.dumps(layer.get_config()))
    rebuilt = kind.from_config(config)
    call(rebuilt, x)
    rebuilt.set_weights(layer.get_weights())
    # Layers that fold under XLA differ in the last bits from one compilation to the next.
    np.testing.assert_allclose(call(rebuilt, x), expected, rtol=1e-5, atol=1e-6)
    assert json.loads(json.dumps(rebuilt.get_config())) == config


@every_entry
def test_a_layer_gives_in_a_graph_what_it_gives_eagerly(entry):
    (_, _, call), x, (layer, expected) = ENTRIES[entry], tensors(), made(entry)
    found = tf.function(lambda inputs: call(layer, inputs), autograph=False)(x)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


@every_layer
def test_weights_stay_in_float32_under_mixed_precision(kind):
    settings, call = CATALOGUE[kind]
    layer, x = kind(**settings, dtype="mixed_bfloat16"), tensors()
    found = tf.cast(call(layer, x), tf.float32)
    assert {variable.dtype for variable in layer.trainable_variables} <= {tf.float32}
    assert found.shape == made(kind.__name__)[1].shape
    assert np.all(np.isfinite(found))


@pytest.mark.parametrize("kind", KERNEL_LAYERS, ids=lambda kind: kind.__name__)
def test_every_kernel_starts_by_the_initializer_and_is_regularized(kind):
    settings, call = CATALOGUE[kind]
    start, penalty = tf.keras.initializers.Constant(7.0), tf.keras.regularizers.L2(0.5)
    layer = kind(**{**settings, "kernel_initializer": start, "kernel_regularizer": penalty})
    call(layer, tensors())
    kernels = [weight for weight in layer.trainable_variables if np.all(weight == 7.0)]
    assert kernels
    np.testing.assert_allclose(sum(layer.losses), sum(map(penalty, kernels)), rtol=1e-6)


@every_entry
def test_kernels_whose_product_is_a_score_start_as_a_similarity(entry):
    layer, _ = made(entry)
    for owner in (layer, *layer.submodules):
        if not isinstance(owner, KernelLayer) or type(owner) in RANDOM_SCORES:
            continue
        weights = {
            weight.name.split("/")[-1].removesuffix(":0"): weight.numpy()
            for weight in owner._trainable_weights
        }
        for query in weights.keys() & SCORE_KERNELS.keys():
            rows = weights[query][getattr(owner, "offset", 0) :]
            kernel = weights[SCORE_KERNELS[query]]
            shared = min(len(rows), len(kernel))
            assert shared
            is_similar = np.array_equal(kernel[:shared], rows[:shared])
            assert is_similar == getattr(owner, "similar_start", True)


@pytest.mark.parametrize(
    ("layer", "score"),
    [
        (BilinearQuery(), lambda layer, x: relevance(layer(x), x)),
        (BilinearQuery(64), lambda layer, x: relevance(layer(x), x)),
        (MultiHeadAttention(), lambda layer, x: tf.reduce_mean(layer.scores(x, x), axis=2)),
    ],
)
def test_at_the_start_the_event_that_equals_the_candidate_scores_highest(layer, score):
    events = tf.random.stateless_normal([2, TIME, 32], [1, 1])
    tf.keras.utils.set_random_seed(1)
    best = tf.argmax(score(layer, events), axis=-1)  # of each event as a candidate
    np.testing.assert_array_equal(best, [range(TIME)] * 2)


@every_layer
def test_every_trainable_weight_has_a_name_of_its_own(kind):
    layer, _ = made(kind.__name__)
    names = [variable.name for variable in layer.trainable_variables]
    assert len(names) == len(set(names))


def test_the_base_encoder_leaves_its_parts_to_subclasses():
    encoder = InterestEncoder()
    for call in (encoder.encode, lambda x: encoder.interest(x, x)):
        with pytest.raises(NotImplementedError):
            call(None)
    with pytest.raises(NotImplementedError, match="cannot fold"):
        encoder.update({}, None)
    assert not encoder.is_incremental


@every_layer
def test_no_layer_returns_its_input_for_want_of_a_call(kind):
    assert kind.call is not tf.keras.layers.Layer.call


def test_an_encoder_without_parts_raises_when_it_is_called():
    with pytest.raises(NotImplementedError, match="does not encode"):
        InterestEncoder()(tf.ones([2, 3, 5]), (tf.ones([2, 4, 5]), tf.ones([2, 4], tf.bool)))
    with pytest.raises(ValueError, match="history must be a History"):
        InterestEncoder()(tf.ones([2, 3, 5]), {"events": tf.ones([2, 4, 5])})
