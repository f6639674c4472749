"""Behavior types by their names: clicks, all other types, and the events of some types alone."""

from collections.abc import Mapping, Sequence

import tensorflow as tf

from dgin_tf.layers.embedding import role_mask
from dgin_tf.ops.masking import is_among
from dgin_tf.schema import (
    BEHAVIOR_TYPE,
    FIRST_ID,
    HISTORY,
    HISTORY_MASK,
    PREFIX,
    Schema,
    check_features,
)


def type_ids(schema: Schema, names: Sequence[str] = ()) -> dict[str, int]:
    """Name -> id of behavior types.

    Args:
      schema: the data.
      names: of the types; () for all.

    Returns:
      Nothing where events have no types.

    Raises:
      ValueError: a name is none of the schema's.
    """
    has_types = BEHAVIOR_TYPE in [field.name for field in schema.with_role(HISTORY)]
    ids = {name: FIRST_ID + n for n, name in enumerate(schema.behavior_types if has_types else ())}
    unknown = sorted(set(names) - set(ids))
    if unknown:
        raise ValueError(
            f"behavior_types are names among {list(ids)}, those of the schema; got {unknown}."
        )
    return {name: ids[name] for name in names} if names else ids


def select_types(
    features: Mapping[str, tf.Tensor],
    type_ids: Sequence[int],
    schema: Schema,
    newest: int | None = None,
) -> dict[str, tf.Tensor]:
    """A batch whose past events are those of some types, side by side as if there were no others.

    Args:
      features: of the batch, `hist_*` [users, time] among them.
      type_ids: the types.
      schema: the data.
      newest: how many of these events stay, the newest; None for all.

    Raises:
      ValueError: events come without their types.
    """
    name = PREFIX[HISTORY] + BEHAVIOR_TYPE
    check_features(features, [name])
    mask = role_mask(features, HISTORY, schema) & is_among(features[name], type_ids)
    if newest is not None:
        age = tf.cumsum(tf.cast(mask, tf.int32), axis=1, reverse=True)  # 1 for the newest
        mask &= age <= newest
    selected = {**features, HISTORY_MASK: mask}
    order = tf.argsort(tf.cast(~mask, tf.int32), axis=1, stable=True)[:, :newest]
    for name in selected:
        if name.startswith(PREFIX[HISTORY]):
            selected[name] = tf.gather(selected[name], order, batch_dims=1)
    return selected


def clicks_first(
    schema: Schema, click: str | None = None, names: Sequence[str] = ()
) -> list[tuple[int, ...]]:
    """Ids of the types that form a sequence each, clicks in front.

    Args:
      schema: the data.
      click: name of the type that is a click; None for the first, as readers have it.
      names: of the types that are read; () for all.

    Returns:
      A tuple of ids for each type; one of () where events have no types, which stands for all
      events.

    Raises:
      ValueError: no type has this name.
    """
    ids = type_ids(schema, names)
    if click is not None:
        ids = {**type_ids(schema, [click]), **ids}
    return [(number,) for number in ids.values()] or [()]
