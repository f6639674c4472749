"""Deep Group Interest Network (Liu et al., 2023): all that a person ever did, as a few interest groups.

A group module attends to groups of the whole history (section 3.3), a target module to the events of
the candidate's own group (section 3.4). Serving keeps the groups, and the events' ids by key.
"""

from collections.abc import Mapping, Sequence

import tensorflow as tf

from dgin_tf.layers.event_attributes import EventAttributes, events_of_types
from dgin_tf.layers.events import History, State
from dgin_tf.layers.group_statistics import GroupStatistics
from dgin_tf.layers.groups import (
    ITEM,
    SESSION,
    GroupAggregation,
    GroupModule,
    events_of_known_keys,
)
from dgin_tf.layers.interest_encoder import HistorySlice
from dgin_tf.layers.multi_head_attention import MultiHeadAttention
from dgin_tf.layers.search.hard import HardSearch
from dgin_tf.layers.search.unit import SearchedInterest
from dgin_tf.layers.short_and_long import ShortAndLong
from dgin_tf.layers.target_module import TargetModule
from dgin_tf.models.base import CTRModel, ModelConfig
from dgin_tf.models.behavior_types import type_ids
from dgin_tf.models.sim import din_history
from dgin_tf.ops.event_order import newest_of_keys
from dgin_tf.schema import (
    BEHAVIOR_TYPE,
    CANDIDATE,
    FIRST_ID,
    HISTORY,
    PREFIX,
    TIMESTAMP,
    Schema,
    feature_name,
)


@tf.keras.utils.register_keras_serializable("dgin_tf")
class DGIN(CTRModel):
    """Sections 3.2 to 3.4. The rows of table 3 are `statistical`, `aggregated` and `target_module`
    switched on one after the other, table 4 is `behavior_types`, table 5 is `key`.

    Attributes of events are what the schema has of timestamps, behavior types and labels (location), and
    statistics have the means of its numeric_features.

    Args:
      schema: the data.
      config: embedding and head.
      key: interest key: `item_id`, another field that events and candidates share, or `session`, which
        no candidate belongs to, so that there is no target module.
      statistical: whether groups have attr_s (Eq. 3).
      aggregated: whether groups have attr_a (Eqs. 4-6).
      target_module: whether there is one (Eq. 8).
      behavior_types: names of the types that are seen, () for all. With one alone the attributes of
        behavior types are left out ("click-only").
      groups: G, the most recent groups that are kept. The paper does not say how many.
      events: B, how many of a group's newest events its self-attention reads. Neither.
      target_events: T, how many of the newest events the target module reads.
      heads: h, of every attention.
      edges: (statistic, edges of its classes) pairs, see `GroupStatistics`; None for those that the
        schema has learned for the key, which are of all behavior types, () for the logarithmic ones.

    Raises:
      ValueError: the settings ask for what the schema or the key does not have.
    """

    def __init__(
        self,
        schema: Schema,
        config: ModelConfig | None = None,
        key: str = ITEM,
        statistical: bool = True,
        aggregated: bool = True,
        target_module: bool = True,
        behavior_types: Sequence[str] = (),
        groups: int = 100,
        events: int = 10,
        target_events: int = 50,
        heads: int = 2,
        edges: Sequence[tuple[str, Sequence[int]]] | None = None,
    ):
        _check_key(schema, key, target_module)
        config = config or ModelConfig()
        dim = config.embedding_dim
        names = [field.name for field in schema.paired_fields]
        seen = type_ids(schema, behavior_types)
        statistics = aggregation = None
        if edges is None:
            edges = tuple(learned_edges(schema, key, behavior_types).items())
        if statistical:
            counted = seen if len(seen) > 1 else {}
            distinct = (ITEM,) if ITEM in names and key != ITEM else ()
            statistics = GroupStatistics(
                dim,
                list(counted),
                list(counted.values()),
                distinct,
                schema.numeric_features,
                dict(edges or ()),
                name="statistics",
            )
        if aggregated:
            attributes = _event_attributes(schema, dim, len(seen) > 1)
            if attributes is None and key == ITEM:
                raise ValueError(
                    "the aggregated attribute needs timestamps or behavior types of events; the "
                    "schema has neither. Prepare the data with them, or set aggregated=False."
                )
            aggregation = GroupAggregation(attributes, heads, name="aggregation")
        # A group begins with the embedding of its key where it does not have all fields.
        offset = dim * names.index(key) if key in names and key != ITEM else 0
        attention = MultiHeadAttention(heads, offset=offset, name="attention")
        encoders = {
            "group_module": GroupModule(
                key, groups, events, statistics, aggregation, attention, name="group_module"
            )
        }
        if target_module:
            encoders["target_module"] = _own_events(
                schema, dim, key, target_events, heads, len(seen) > 1
            )
        super().__init__(schema, encoders, config, name="dgin")
        self._seen = tuple(seen.values()) if behavior_types else ()

    def condense(self, features: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        """Groups (`hist_group_*`, see `GroupModule.group`), and of the events only the candidates' own.

        Returns:
          A batch whose `hist_*` [users, found] are the newest T events of every candidate's key, in
          the order of time, and where there is no target module the newest event.
        """
        history = self._raw_history(features)
        module = self.encoders["group_module"]
        groups = module.sorted_into_groups(history)
        places, mask = groups.newest[:, :1], groups.mask[:, :1]
        excerpt = self._own_events
        if excerpt is not None:
            wanted = features[PREFIX[CANDIDATE] + excerpt.key]
            wanted = tf.where(
                features["cand_mask"] & (wanted >= FIRST_ID), wanted, wanted.dtype.max
            )
            places, mask = newest_of_keys(groups.order, wanted, excerpt.per_key)
        condensed = {
            name: tf.where(mask, tf.gather(value, places, batch_dims=1), tf.zeros([], value.dtype))
            if name in history.features
            else value
            for name, value in features.items()
        }
        length = tf.math.count_nonzero(features["hist_mask"], axis=1, dtype=tf.int32)
        grouped = module.group(groups, history)
        return {**condensed, **grouped, "hist_mask": mask, HISTORY_LENGTH: length}

    @property
    def excerpt(self) -> HistorySlice | None:
        """What of a history is read beside the kept groups; None for nothing, or where none are kept."""
        return self._own_events if self.kept else None

    @property
    def kept(self) -> "Kept | None":
        """The groups, but not those of sessions or of some behavior types, which no index lists."""
        module = self.encoders["group_module"]
        if module.key == SESSION or self._seen:
            return None
        names = tuple(module.statistics.names) if module.statistics is not None else ()
        return Kept("group_module_", module.key, module.groups, module.events, names)

    @property
    def _own_events(self) -> HistorySlice | None:
        module = self.encoders.get("target_module")
        return None if module is None else module.excerpt

    def _raw_history(self, features: Mapping[str, tf.Tensor]) -> History:
        """The seen part of a history, as ids."""
        raw = {
            name: value
            for name, value in features.items()
            if name.startswith(PREFIX[HISTORY]) and name != "hist_mask"
        }
        names = tuple(feature_name(HISTORY, field) for field in self.schema.paired_fields)
        return self.seen(history_of(raw, features["hist_mask"], None, names))

    def seen(self, history: History) -> History:
        """The part of a history that is of the wanted behavior types, and of an interest at all.

        Events whose key is out of vocabulary share nothing but that.
        """
        if self._seen:
            history = events_of_types(history, self._seen)
        key = self.encoders["group_module"].key
        return history if key == SESSION else events_of_known_keys(history, key)

    def _encode(self, history: History, features, training: bool) -> State:
        return super()._encode(self.seen(history), features, training)


@tf.keras.utils.register_keras_serializable("dgin_tf")
class SIMTargetModule(CTRModel):
    """SIM-TM (section 4.2): SIM with hard search, what it finds read by DGIN's target module.

    Args:
      schema: the data.
      config: embedding and head.
      k: how many events are found at most.
      field: the attribute to search by.
      short_events: how many of the newest events DIN reads; the others are searched.
      softmax: whether DIN's weights are normalized.
      heads: of the target module's attentions.
    """

    def __init__(
        self,
        schema: Schema,
        config: ModelConfig | None = None,
        k: int = 50,
        field: str = "category_id",
        short_events: int = 10,
        softmax: bool = False,
        heads: int = 2,
    ):
        config = config or ModelConfig()
        long = _own_events(schema, config.embedding_dim, field, k, heads)
        encoder = ShortAndLong(din_history(softmax), long, short_events, name="interest")
        super().__init__(schema, {"interest": encoder}, config, name="sim_tm")


def learned_edges(
    schema: Schema, key: str, behavior_types: Sequence[str] = ()
) -> Mapping[str, tuple[int, ...]]:
    """What a schema has learned of a key's groups, statistic -> edges; {} for nothing.

    It was learned from all types of behavior; counts of some of them are other counts.
    """
    return {} if behavior_types else schema.statistic_edges.get(key, {})


def _own_events(
    schema: Schema, dim: int, key: str, events: int, heads: int, typed: bool = True
) -> SearchedInterest:
    """The newest events that share a candidate's key, read by a target module."""
    if key not in [field.name for field in schema.paired_fields]:
        raise ValueError(_no_such_key(schema, key))
    attributes = _event_attributes(schema, dim, typed)
    return SearchedInterest(
        HardSearch(events, key, name="unit"),
        TargetModule(attributes, heads, name="reader"),
        times=attributes is not None and attributes.times,
        sparse=True,
        name="target_module",
    )


def _event_attributes(schema: Schema, dim: int, typed: bool) -> EventAttributes | None:
    """The attributes that only events have: all of which the schema knows."""
    fields = {field.name: field for field in schema.with_role(HISTORY)}
    times = TIMESTAMP in fields and CANDIDATE in fields[TIMESTAMP].roles
    types = 0
    if typed and BEHAVIOR_TYPE in fields and CANDIDATE not in fields[BEHAVIOR_TYPE].roles:
        types = schema.vocabulary_sizes[fields[BEHAVIOR_TYPE].vocabulary]
    labels = {
        name: schema.vocabulary_sizes[fields[name].vocabulary] for name in schema.side_features
    }
    if not (times or types or labels):
        return None
    return EventAttributes(dim, times, types, labels, name="attributes")


def _check_key(schema: Schema, key: str, target_module: bool) -> None:
    if key == SESSION:
        if target_module:
            raise ValueError(
                "no candidate belongs to a session; set target_module=False with key='session'."
            )
        if not any(f.name == TIMESTAMP for f in schema.with_role(HISTORY)):
            raise ValueError(
                "key='session' needs times of events; the schema has none. Prepare the data with "
                "timestamps, or group by a field."
            )
        return
    if key not in [field.name for field in schema.paired_fields]:
        raise ValueError(_no_such_key(schema, key))


def _no_such_key(schema: Schema, key: str) -> str:
    known = [field.name for field in schema.paired_fields]
    return f"events and candidates must share the key, a field among {known}; got {key!r}."
