"""Parts of a history that a model's scores depend on, where it need not be sent the whole."""

import dataclasses

from dgin_tf.group_spec import GroupSpec
from dgin_tf.layers.interest_encoder import HistorySlice


@dataclasses.dataclass(frozen=True)
class ServingSpec:
    """Parts of a history that scores depend on; both None where a model wants all of it.

    Attributes:
      history: the events that are read for every request.
      groups: the groups of events whose state an index keeps up to date, ahead of requests.
    """

    history: HistorySlice | None = None
    groups: GroupSpec | None = None
