"""Scoring of requests from stored user states, as a server does it."""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import tensorflow as tf

from dgin_tf.models.base import CTRModel


def stored_answers(
    model: CTRModel, requests: Sequence[Mapping[str, tf.Tensor]]
) -> list[Callable[[], tf.Tensor]]:
    """Returns, for every request, a function that scores it: logits [users, candidates].

    The states are encoded here; those of searches hold the events that a behavior index would return.
    """
    encode = tf.function(
        lambda request: model.encode_user(_transform(model, request)),
        reduce_retracing=True,
        autograph=False,
    )
    score = tf.function(
        lambda s, r: model.score(s, r)["logits"], reduce_retracing=True, autograph=False
    )
    return [functools.partial(score, encode(request), request) for request in requests]


def _transform(model: CTRModel, batch: Mapping[str, Any]) -> Mapping[str, Any]:
    for transform in model.input_transforms:
        batch = transform(batch)
    return batch
