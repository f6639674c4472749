"""Deep Group Interest Network (Liu et al., 2023): a user's whole history as a few interest groups.

A group module attends to groups of the whole history (section 3.3), a target module to the events of
the candidate's own group (section 3.4). Serving caches the groups, and keeps the events' ids by key.
"""

import dataclasses
import itertools
import logging
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from dgin_tf.group_spec import ITEM, SESSION, GroupSpec, StatisticsSpec
from dgin_tf.inputs.group_features import GROUPS, KEPT_OF_ALL, GroupTransform, history_features
from dgin_tf.layers.configured import as_layer
from dgin_tf.layers.event_attributes import EventAttributes
from dgin_tf.layers.events import History
from dgin_tf.layers.group_statistics import GroupStatistics
from dgin_tf.layers.groups import GroupAggregation, GroupModule
from dgin_tf.layers.interest_encoder import InterestEncoder
from dgin_tf.layers.multi_head_attention import MultiHeadAttention
from dgin_tf.layers.search.hard import HardSearch
from dgin_tf.layers.search.unit import SearchedInterest
from dgin_tf.layers.target_module import TargetModule
from dgin_tf.models.base import CTRModel, ModelConfig
from dgin_tf.models.behavior_types import type_ids
from dgin_tf.models.serving_spec import ServingSpec
from dgin_tf.models.short_and_long import ShortAndLongModel
from dgin_tf.models.sim import HardSettings
from dgin_tf.ops.parts import parts_of
from dgin_tf.schema import BEHAVIOR_TYPE, CANDIDATE, HISTORY, TIMESTAMP, Schema

LOGARITHMIC, LEARNED = "logarithmic", "learned"
_ADAPT_BATCHES = 50  # of which bucket boundaries are learned


class DGIN(CTRModel, registry_name="dgin"):
    """Sections 3.2 to 3.4, of a group module and a target module that are passed in.

    `DGIN(schema)` has the blocks of the default `Settings`; `DGIN(schema, group_module=...)` has the group
    module alone, and with `target_module` both.

    Args:
      schema: the data.
      config: embedding and head.
      group_module: Eqs. (3)-(7).
      target_module: encoder of the candidate's own events (Eq. 8); None for none.

    Raises:
      ValueError: there is a target module without a group module, or the schema lacks the key.
    """

    @dataclasses.dataclass(frozen=True)
    class Settings:
        """Settings of the paper's blocks. The rows of table 3 are `statistical`, `aggregated` and
        `target_module` switched on one after the other, table 4 is `ModelConfig.behavior_types`, table 5
        is `key`.

        Attributes of events are what the schema has of timestamps, behavior types (where more than one is
        read) and side features, and statistics have the means of its numeric features.

        Attributes:
          key: interest key: `item_id`, another field that events and candidates share, or `session`,
            which no candidate belongs to, so that there is no target module.
          statistical: whether groups have attr_s (Eq. 3).
          aggregated: whether groups have attr_a (Eqs. 4-6).
          target_module: whether there is one (Eq. 8).
          groups: G, the most recent groups that remain; None for all, as the paper discards no event.
          events: B, how many of a group's newest events its self-attention reads. The paper does
            not say how many.
          target_events: T, how many of the newest events the target module reads.
          heads: h, of every attention.
          boundaries: of the statistics' buckets: "logarithmic", or "learned" from training groups.
          buckets: of a statistic, at most, where boundaries are learned.
        """

        key: str = ITEM
        statistical: bool = True
        aggregated: bool = True
        target_module: bool = True
        groups: int | None = None
        events: int = 10
        target_events: int = 50
        heads: int = 2
        boundaries: str = LOGARITHMIC
        buckets: int = 16

    def __init__(
        self,
        schema: Schema,
        config: ModelConfig | None = None,
        group_module: GroupModule | None = None,
        target_module: InterestEncoder | None = None,
    ):
        if group_module is None:
            if target_module is not None:
                raise ValueError("a target module comes beside a group module; pass both.")
            group_module, target_module = paper_modules(schema, config, self.Settings())
        check_key(schema, as_layer(group_module, GroupModule).key)
        modules = {"group_module": group_module, "target_module": target_module}
        encoders = {name: module for name, module in modules.items() if module is not None}
        super().__init__(schema, encoders, config, name="dgin")

    @property
    def group_module(self) -> GroupModule:
        """The group module; a model with another one is constructed anew."""
        return self.encoders["group_module"]

    @property
    def target_module(self) -> InterestEncoder | None:
        """The target module, or None."""
        return self.encoders.get("target_module")

    @property
    def spec(self) -> GroupSpec:
        """All that the group module reads of a history."""
        return self.group_module.spec([field.name for field in self.schema.paired_fields])

    @classmethod
    def blocks(cls, schema: Schema, config: ModelConfig, settings: Settings) -> dict[str, Any]:
        """The paper's blocks."""
        modules = paper_modules(schema, config, settings)
        return dict(zip(("group_module", "target_module"), modules, strict=True))

    def past_events(self, features: Mapping[str, Any]) -> History:
        """Past events as ids, with the groups that batches came with."""
        history = super().past_events(features)
        # An index sends running statistics of groups, which are no fields of the schema.
        raw = {**history_features(features), **history.features}
        return history._replace(features=raw, groups=features.get(GROUPS))

    @property
    def input_transforms(self) -> Sequence[GroupTransform]:
        """Groups batches, and leaves of their histories what the target module reads."""
        per_key: int | None = 0
        if self.target_module is not None:
            history = self.target_module.history_slice
            per_key = None
            if history is not None and history[:2] == (self.spec.key, 0):
                per_key = history.per_key
        return (GroupTransform(self.spec, per_key, self.type_ids),)

    @property
    def serving_spec(self) -> ServingSpec:
        """The groups, and the events of the candidate's key.

        No index lists the groups of sessions or of some behavior types; whole histories are read there.
        """
        history = None if self.target_module is None else self.target_module.history_slice
        needs_all = self.target_module is not None and history is None
        if self.spec.key == SESSION or self.type_ids or needs_all:
            return ServingSpec()
        return ServingSpec(history, self.spec)

    def adapt(self, dataset: Iterable[Mapping[str, Any]]) -> None:
        """Learns the bucket boundaries of the statistics, where these have `num_bins`.

        A warning says how many events fall out where the number of groups is limited.
        """
        super().adapt(dataset)
        if self.spec.groups is not None:
            _warn_of_limit(self.input_transforms[0], itertools.islice(dataset, _ADAPT_BATCHES))
        statistics = self.group_module.statistics
        if statistics is not None and statistics.num_bins is not None:
            sample = itertools.islice(dataset, _ADAPT_BATCHES)
            events = (self.past_events(part) for batch in sample for part in parts_of(batch))
            histories = map(self.group_module.prepare, events)
            statistics.adapt(h.groups for h in histories if h.groups is not None)


class SIMTargetModule(ShortAndLongModel, registry_name="sim_tm"):
    """SIM-TM (section 4.2): SIM with hard search, whose events DGIN's target module reads."""

    Settings = HardSettings

    @classmethod
    def blocks(cls, schema, config, settings):
        """Hard search, a target module of as many heads, and DIN."""
        check_key(schema, settings.field)
        attributes = event_attributes(schema, config.embedding_dim)
        reader = TargetModule(attributes, settings.heads, name="reader")
        long = search_own_events(settings.field, settings.k, reader)
        return {"short": settings.short_encoder(), "long": long}


def _warn_of_limit(transform: GroupTransform, batches: Iterable[Mapping[str, Any]]) -> None:
    """Logs the share of users and events that a limit on groups leaves out of a sample of batches."""
    parts = (part for batch in batches for part in parts_of(batch))
    counts = [(p if GROUPS in p else transform(p))[KEPT_OF_ALL].numpy() for p in parts]
    kept, events = np.concatenate(counts or [np.zeros([0, 2], np.int32)]).T
    if np.any(kept < events):
        logging.getLogger(__name__).warning(
            "groups=%d leaves events out: %.1f%% of the users have more groups, and %.1f%% of all events "
            "are lost (sample of %d users). groups=None keeps all.",
            transform.spec.groups,
            100 * np.mean(kept < events),
            100 * (1 - kept.sum() / events.sum()),
            len(events),
        )


def paper_modules(
    schema: Schema, config: ModelConfig | None, settings: DGIN.Settings
) -> tuple[GroupModule, InterestEncoder | None]:
    """The paper's group module, and its target module where the settings ask for one.

    Raises:
      ValueError: the settings ask for what the schema or the key does not have.
    """
    check_key(schema, settings.key)
    if settings.boundaries not in (LOGARITHMIC, LEARNED):
        raise ValueError(
            f"boundaries must be {LOGARITHMIC!r} or {LEARNED!r}; got {settings.boundaries!r}."
        )
    if settings.boundaries == LEARNED and not settings.statistical:
        raise ValueError(
            "expected statistics whose boundaries are to be learned; got a model without."
        )
    config = config or ModelConfig()
    dim, types = config.embedding_dim, type_ids(schema, config.behavior_types)
    fields = [field.name for field in schema.paired_fields]
    types = types if len(types) > 1 else {}  # what all events are of tells nothing
    statistics = attributes = aggregation = None
    if settings.statistical:
        spec = StatisticsSpec(
            tuple(types.items()),
            (ITEM,) if ITEM in fields and settings.key != ITEM else (),
            schema.numeric_features,
        )
        num_bins = settings.buckets if settings.boundaries == LEARNED else None
        statistics = GroupStatistics(spec, dim, num_bins=num_bins, name="statistics")
    if settings.aggregated:
        attributes = event_attributes(schema, dim, bool(types))
        if attributes is None and settings.key == ITEM:
            raise ValueError(
                "the aggregated attribute needs timestamps or behavior types of events; the schema has "
                "neither. Prepare the data with them, or set aggregated=False."
            )
        aggregation = GroupAggregation(settings.heads, name="aggregation")
    # A group begins with the embedding of its key where it does not have all fields.
    is_single_field = settings.key in fields and settings.key != ITEM
    offset = dim * fields.index(settings.key) if is_single_field else 0
    group_module = GroupModule(
        settings.key,
        settings.groups,
        settings.events,
        statistics,
        attributes,
        aggregation,
        MultiHeadAttention(settings.heads, offset=offset, name="attention"),
        name="group_module",
    )
    if not settings.target_module:
        return group_module, None
    if settings.key == SESSION:
        raise ValueError(
            "no candidate belongs to a session; set target_module=False with key='session'."
        )
    reader = TargetModule(event_attributes(schema, dim, bool(types)), settings.heads, name="reader")
    return group_module, search_own_events(settings.key, settings.target_events, reader)


def search_own_events(key: str, count: int, reader: TargetModule) -> SearchedInterest:
    """The newest events that share a candidate's key, read by a target module (section 3.4)."""
    attributes = reader.attributes
    return SearchedInterest(
        HardSearch(count, key, name="unit"),
        reader,
        times=attributes is not None and attributes.times,
        sparse=True,
        name="target_module",
    )


def event_attributes(schema: Schema, dim: int, typed: bool = True) -> EventAttributes | None:
    """All attributes of a schema that only events have; None for none.

    Args:
      schema: the data.
      dim: width of one attribute's embedding.
      typed: whether behavior types are among them.
    """
    fields = {field.name: field for field in schema.with_role(HISTORY)}
    times = TIMESTAMP in fields and CANDIDATE in fields[TIMESTAMP].roles
    types = 0
    if typed and BEHAVIOR_TYPE in fields and CANDIDATE not in fields[BEHAVIOR_TYPE].roles:
        types = schema.vocabulary_sizes[fields[BEHAVIOR_TYPE].vocabulary]
    side_features = {
        name: schema.vocabulary_sizes[fields[name].vocabulary] for name in schema.side_features
    }
    if not (times or types or side_features):
        return None
    return EventAttributes(dim, times, types, side_features, name="attributes")


def check_key(schema: Schema, key: str) -> None:
    """Raises ValueError where events of a schema cannot be grouped or searched by a key."""
    fields = [field.name for field in schema.paired_ids]
    if key == SESSION:
        if not any(field.name == TIMESTAMP for field in schema.with_role(HISTORY)):
            raise ValueError(
                "key='session' needs times of events; the schema has none. Prepare the data with "
                "timestamps, or group by a field."
            )
    elif key not in fields:
        raise ValueError(
            f"events and candidates must share the key, a field among {fields}; got {key!r}."
        )
