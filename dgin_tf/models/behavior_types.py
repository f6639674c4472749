"""Ids of behavior types by their names: clicks, and all other types."""

from collections.abc import Sequence

from dgin_tf.schema import BEHAVIOR_TYPE, FIRST_ID, HISTORY, Schema


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


def clicks_first(schema: Schema, click: str | None = None) -> list[tuple[int, ...]]:
    """Ids of the types that form a sequence each, clicks in front.

    Args:
      schema: the data.
      click: name of the type that is a click; None for the schema's first, as readers have it.

    Returns:
      A tuple of ids for each type; one of () where events have no types, which stands for all
      events.

    Raises:
      ValueError: no type has this name.
    """
    ids = type_ids(schema)
    if click is not None:
        ids = {**type_ids(schema, [click]), **ids}
    return [(number,) for number in ids.values()] or [()]
