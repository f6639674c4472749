"""Pictures of one user's history under a model, whatever the model: events, searches, clusters, slots, groups."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf
from matplotlib.figure import Figure

from dgin_tf.group_spec import SESSION
from dgin_tf.inspection import groups, memories, plots, relevance, searches, traces
from dgin_tf.layers.groups import GroupModule
from dgin_tf.layers.interest_clusters import INTEREST_WEIGHTS, InterestClusters
from dgin_tf.layers.search.hard import HardSearch
from dgin_tf.layers.search.unit import TOPK_INDICES
from dgin_tf.layers.short_and_long import ShortAndLong
from dgin_tf.models.base import CTRModel
from dgin_tf.records import LABEL
from dgin_tf.schema import CANDIDATE, HISTORY, PREFIX

TYPICAL_LENGTH = 40  # events: enough for an interest to evolve, few enough to be drawn
_CATEGORY = "category_id"
PICTURES = (  # names, for those who have to know before anything is drawn
    *("attention", "evolution", "long", "short", "clusters", "cluster-attention", "writing"),
    *("reading", "channels", "groups"),
)


class Picture(NamedTuple):
    """A figure.

    Attributes:
      name: for files.
      figure: of matplotlib.
      caption: sentences that say what is to be seen.
    """

    name: str
    figure: Figure
    caption: str


class _Subject(NamedTuple):
    """A model, one user's batch of one row, and what the model makes of it, with names."""

    model: CTRModel
    features: Mapping[str, tf.Tensor]
    names: traces.Names
    trace: traces.Trace
    events: list[str]
    candidates: list[str]

    @property
    def encoder(self) -> Any:
        """The first encoder of the model; None where it has none."""
        return next(iter(self.model.encoders.values()), None)


def user_pictures(
    model: CTRModel, features: Mapping[str, tf.Tensor], names: traces.Names
) -> list[Picture]:
    """Draws all that a model names of one history against some candidates.

    Args:
      model: any model; one that weighs nothing has no pictures.
      features: a batch of one row without padding in its history, see `traces.with_candidates`.
      names: raw values of ids.
    """
    trace = traces.trace(model, features)
    events = traces.event_names(trace.features, model.schema, names)
    subject = _Subject(model, features, names, trace, events, _candidates(trace, model, names))
    return [picture for view in _VIEWS for picture in view(subject)]


def drawn_length(model: CTRModel) -> int:
    """Number of events of a history that shows what a model does, its long part included."""
    encoder = next(iter(model.encoders.values()), None)
    return TYPICAL_LENGTH + getattr(encoder, "short_events", 0)


def _candidates(trace: traces.Trace, model: CTRModel, names: traces.Names) -> list[str]:
    """Names of the candidates with their probabilities, clicked ones marked."""
    labels = trace.features[LABEL][0]
    own_names = traces.candidate_names(trace.features, model.schema, names)
    return [
        f"{name}: {probability:.3f}{', clicked' if label > 0 else ''}"
        for name, probability, label in zip(own_names, trace.probabilities[0], labels, strict=False)
    ]


def _event_attention(subject: _Subject) -> list[Picture]:
    attention = subject.trace.attention
    if attention is None or isinstance(subject.encoder, ShortAndLong):
        return []
    if attention.shape[1:] != (len(subject.candidates), len(subject.events)):
        return []  # over slots, groups or sessions
    figure = plots.attention_over_events(attention[0], subject.events, subject.candidates)
    caption = (
        "Attention of each candidate (a column, with the predicted probability of a click) to each "
        "past event (a row, the newest below)."
    )
    return [Picture("attention", figure, caption)]


def _evolution(subject: _Subject) -> list[Picture]:
    if not traces.has_evolution(subject.model):
        return []
    paths, weights = traces.trace_evolution(subject.model, subject.features)
    targets = [plots.NO_TARGET, *subject.candidates]
    figure = plots.interest_evolution(paths[0], weights[0], targets, subject.events)
    caption = (
        "Figure 3 of the DIEN paper. (a) How the interest moves with every past event, in two "
        "principal components, for each candidate; the large mark is the end, which the prediction "
        "reads, and the dashed path is that of equal attention. Paths part where candidates attend to "
        "different events. (b) The attention that drives them."
    )
    return [Picture("evolution", figure, caption)]


def _long_history(subject: _Subject) -> list[Picture]:
    encoder, trace = subject.encoder, subject.trace
    if not isinstance(encoder, ShortAndLong):
        return []
    pictures, count = [], max(len(subject.events) - encoder.short_events, 0)
    if count:
        weights = relevance.long_weights(subject.model, subject.features)[0, :, :count]
        marked, mark, more = None, "", ""
        if trace.find(TOPK_INDICES) is not None:
            marked, mark = weights > 0, "retrieved by the search"
            if trace.array(TOPK_INDICES).ndim == 3:
                marked = searches.retrieved_events(trace)[0, :, :count]
            sizes = ", ".join(map(str, marked.sum(axis=1)))
            more = (
                f" Orange events are those that the search found for the candidate, of {count:,}: "
                f"{sizes}; the others have no weight."
            )
            if isinstance(getattr(encoder.long, "unit", None), HardSearch):
                more += " Hard search finds the events of the candidate's own category, or nothing."
        labels = subject.events[:count]
        figure = plots.attention_over_events(weights, labels, subject.candidates, marked, mark)
        caption = (
            f"Weight of each event of the long history, which is all but the newest "
            f"{encoder.short_events}, for each candidate (a column, with its probability).{more}"
        )
        pictures.append(Picture("long", figure, caption))
    attention = trace.find("short", "attention")
    recent = subject.events[count:]
    if attention is not None:
        if attention.ndim == 4:  # of heads
            attention = attention.mean(axis=2)
        figure = plots.attention_over_events(
            attention[0, :, : len(recent)], recent, subject.candidates
        )
        caption = (
            f"Attention of the short part to the newest {len(recent)} events, which are read one by "
            "one beside the long history; DIN's attention is not normalized and may be negative."
        )
        pictures.append(Picture("short", figure, caption))
    return pictures


def _clusters(subject: _Subject) -> list[Picture]:
    if not isinstance(getattr(subject.encoder, "long", None), InterestClusters):
        return []
    assignment, events = relevance.clusters_of(subject.model, subject.features)
    is_long = assignment[0] >= 0
    if not is_long.any():
        return []
    weights = relevance.long_weights(subject.model, subject.features)
    labels = np.asarray(_topics(subject))[is_long]
    figure = plots.clusters(
        events[0, is_long], assignment[0, is_long], labels.tolist(), weights[0, 0, is_long]
    )
    caption = (
        "The long history in clusters, which are made once for a user, before any candidate is known. "
        "A mark is an event, its color the cluster, its size the weight for "
        f"{subject.candidates[0]}."
    )
    names = plots.cluster_names(assignment[0, is_long], labels.tolist())
    between = subject.trace.array("long", INTEREST_WEIGHTS)[0][:, list(names)]
    by_cluster = plots.weights_by_name(
        between,
        list(names.values()),
        subject.candidates,
        "weight of the cluster",
        "Attention to the clusters",
    )
    text = (
        "Weight of every cluster (a row) for each candidate (a column); a candidate reads these few "
        "sums in place of all events."
    )
    return [
        Picture("clusters", figure, caption),
        Picture("cluster-attention", by_cluster, text),
    ]


def _memory(subject: _Subject) -> list[Picture]:
    if not memories.is_addressed(subject.model):
        return []
    writing = memories.event_writing(subject.model, subject.features)[0]  # [time, slots]
    slots = [str(number) for number in range(1, writing.shape[1] + 1)]
    figure = plots.slot_writing(writing, subject.events, slots)
    caption = (
        "What each slot of the memory is written with: the write weight of every past event (a row) on "
        f"every slot (a column). Colors span {writing.min():.3f} to {writing.max():.3f}; an event that "
        f"writes all {len(slots)} slots alike has {1 / len(slots):.3f}."
    )
    pictures = [Picture("writing", figure, caption)]
    share = writing.sum(axis=0) / writing.sum()
    topics = memories.topics_of_slots(writing, _topics(subject))
    names = [
        f"slot {slot}: {part:.0%} of the writing, most its own {topic}"
        for slot, part, topic in zip(slots, share, topics, strict=True)
    ]
    readings = {
        "target_weights": ("reading", "read weight", "slots"),
        "attention": ("channels", "attention", "channels that follow the slots"),
    }
    for output, (name, label, what) in readings.items():
        weights = subject.trace.find(output)
        if weights is not None and weights.shape[1:] == (len(subject.candidates), len(slots)):
            figure = plots.weights_by_name(weights[0], names, subject.candidates, label)
            text = (
                f"What each candidate (a column) reads of the {what}. The category beside a slot is the "
                "one whose events write it most, compared with how they write the others."
            )
            pictures.append(Picture(name, figure, text))
    return pictures


def _groups(subject: _Subject) -> list[Picture]:
    module = subject.model.encoders.get(groups.MODULE)
    if not isinstance(module, GroupModule):
        return []
    trace, key = subject.trace, module.key
    names = groups.group_names(trace, 0, key, subject.model.schema, subject.names)
    if not names:
        return []
    attention = groups.group_attention(trace)[0, :, : len(names)]
    marked = None
    if key != SESSION:
        keys = trace.state[groups.MODULE]["keys"][0, : len(names)]
        marked = keys == trace.features[PREFIX[CANDIDATE] + key][0][:, np.newaxis]
    figure = plots.attention_over_events(
        attention[:, ::-1],
        names[::-1],
        subject.candidates,
        None if marked is None else marked[:, ::-1],
        "the candidate's own group",
        what="group",
    )
    caption = (
        f"The {len(subject.events):,} events of the history are {len(names):,} groups by "
        f"{key.removesuffix('_id')} (a row each, the most recently used below); the bars are the "
        "attention of each candidate to them, the mean over heads, Eq. (7) of the DGIN paper."
    )
    return [Picture("groups", figure, caption)]


def _topics(subject: _Subject) -> Sequence[str]:
    """A name of each event by which they are summed up: its category, where events have one."""
    name = PREFIX[HISTORY] + _CATEGORY
    if name not in subject.trace.features:
        return subject.events
    ids = subject.trace.features[name][0]
    vocabulary = subject.model.schema.field(_CATEGORY).vocabulary
    return [f"category {value}" for value in subject.names.of(vocabulary, ids)]


_VIEWS: Sequence[Callable[[_Subject], list[Picture]]] = (
    _groups,
    _clusters,
    _memory,
    _event_attention,
    _evolution,
    _long_history,
)
