"""Checks of the finished examples; one count above zero and the preparation is not finished.

The checks look at the candidates and the histories alone and repeat nothing of what made them.
"""

import numpy as np
import pandas as pd

from data_prep.events import MICROSECOND, TIME
from data_prep.stages.examples import Candidates
from data_prep.stages.histories import Histories
from data_prep.stages.negatives import pack

OWN_SECOND = "candidates that see an event of their own second or later"
OWN_EVENT = (
    "candidates that see their own event or one that sorts after it by second, item, category and "
    "behavior (of its own second they see what sorts before it)"
)
SEEN_NEGATIVE = "negatives that the user has an event with"
LATER_NEGATIVE = "negatives that the user has an event with after what the candidate sees"
POSITIVE_AS_NEGATIVE = "negatives equal to a positive of the same cut"
SHARED_USER = "users in more than one split"
TIME_ORDER = "splits that overlap in time"
# Not refused, since a given split is what others compare on.
LATE_TRAINING = "training impressions at or after the first test impression"


def future_events(histories: Histories, candidates: Candidates, *, strict: bool) -> int:
    """Candidates whose history reaches into what it must not know.

    Args:
      histories: of one bucket.
      candidates: of the same bucket.
      strict: counts `OWN_SECOND` (their own microsecond, where the log has it), as the strict form of `last_event` promises; otherwise `OWN_EVENT`,
        which is all that the paper form and `examples_file` promise.
    """
    target = candidates.target
    has_history = target.cut > 0
    # Row of the newest event that each candidate sees, [candidates]; any row if it sees none.
    newest = histories.offsets[target.user] + np.maximum(target.cut - 1, 0)
    newest_time = histories.events[TIME][newest] if len(newest) else newest
    late = newest_time > candidates.time
    same = newest_time == candidates.time
    if candidates.microsecond is not None and len(newest):
        newest_within = histories.events[MICROSECOND][newest]
        late |= same & (newest_within > candidates.microsecond)
        same &= newest_within == candidates.microsecond
    late |= strict & same
    return int(np.sum(has_history & (late | (target.cut > target.event))))


def seen_negatives(candidates: Candidates, event_user: np.ndarray, event_item: np.ndarray) -> int:
    """Negatives among the items of the user's events.

    Args:
      candidates: of one bucket.
      event_user, event_item: row of the user and catalogue row of the item, [events].
    """
    negative = candidates.label == 0
    pairs = pd.Series(pack(candidates.target.user[negative], candidates.item[negative]))
    events = pd.Series(pack(event_user, event_item))
    return int(pairs.isin(events[events.isin(pairs)]).sum())


def later_negatives(candidates: Candidates, histories: Histories, event_item: np.ndarray) -> int:
    """Negatives among the items of the user's events at or after the candidate's cut.

    Args:
      candidates: of one bucket.
      histories: of the same bucket.
      event_item: catalogue row of the item, [events].
    """
    negative = candidates.label == 0
    # Newest position of each (user, item) pair; pairs of other items get -1.
    position = np.arange(len(event_item)) - histories.offsets[histories.owner]
    last = pd.Series(position).groupby(pack(histories.owner, event_item)).max()
    pairs = pack(candidates.target.user[negative], candidates.item[negative])
    newest = last.reindex(pairs, fill_value=-1).to_numpy()
    return int(np.sum(newest >= candidates.target.cut[negative]))


def positives_as_negatives(candidates: Candidates) -> int:
    """Negatives whose item is a positive of the same user, split and cut."""
    target, negative = candidates.target, candidates.label == 0
    keys = pd.MultiIndex.from_arrays([target.split, target.user, target.cut, candidates.item])
    return int(keys[negative].isin(keys[~negative]).sum())


def users_in_two_splits(candidates: Candidates) -> int:
    """Users with candidates in more than one split."""
    starts = candidates.group_starts()
    return len(starts) - len(np.unique(candidates.target.user[starts]))
