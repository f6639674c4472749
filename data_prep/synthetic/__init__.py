"""Synthetic logs in Taobao's layout in which the cause of every click is known.

Real logs never say why a user clicked, so on them nobody can tell whether attention looks at the right
events. This log is drawn from a small generative model, and a side file holds the causes.

    python -m data_prep.synthetic --output=/tmp/log.csv --preset=quickstart --seed=7

The log: one line an event, `user,item,category,behavior,timestamp`, no header, behaviors `pv`,
`buy`, `cart`, `fav`, users in blocks in string order (as the Tianchi file has them), each user's
timestamps strictly rising, so that (user, timestamp) names an event wherever it is joined later.

The generative model
--------------------
*Catalogue.* Items are dealt evenly over `categories` x `topics_per_category` topics; an item's share
of its topic's clicks falls with its rank as a power law (Zipf), and so does a topic's share of all
interest. A fixed share of the categories are consumables: bought in cycles, never browsed.

*Lengths.* Log-normal with spread `spread`, clipped to [shortest, longest], shifted so that the total
is exactly `events`; one user has exactly the shortest and one exactly the longest history.

*Time.* A user's events come in sessions: gaps are exponential, 200 times longer between sessions.

*Threads.* Every event belongs to exactly one thread of its user, and **the causes of an event are the
earlier events of its thread**: had they not happened, neither would it. There are five sorts of threads:

- a planted **interest** k, one of the user's few browsing topics. The events between switches (a run
  of `run_length` events on average) follow one interest, drawn with probability proportional to
  strength_k exp(drift slope_k (tau - 1/2)), slope_k ~ U(-1, 1), where tau in [0, 1] is how far the
  user's time has come: interests rise and fade. The item is a Zipf draw within the topic;
- a **cycle**: one consumable item, looked at and bought again each time its period has passed, at the
  user's first event after it is due. The period is the user's time divided by a draw from `cycles`,
  so the cause of a repeat lies deep in the history;
- a **dormant interest** (where `dormancy` has a share): a topic that the user comes back to for one
  click each time the topic's period has passed, and leaves alone in between. The item is a Zipf draw
  within the topic. The period is a property of the topic (the user's time divided by between the
  fewest and most `rounds`, all sizes equally often in the logarithm), so that the time since the last
  click says whether the topic is due; topics of one category have periods of their own, so that the
  category alone says neither what nor when. The newest events hold none of the causes;
- a **story** of one item (where `stories` has a share), told by its behavior types. It is looked
  at once or a few times in a row, and what follows depends on its fate: nothing (`look`); `cart`: it
  is carted and comes back soon and often, and now and then is bought, which ends it; `fav`: it comes
  back late and seldom; `buy`: it is bought and never seen again. A consumable is bought at once, and
  looked at and bought again each time its period has passed. So whether an item that a user has met
  is clicked again is told by the behavior types in its own history and by the time since, much less
  by their number, and its category only says whether it is consumable;
- a **lone click** on a Zipf item of a Zipf topic, whatever the user likes: noise, without a cause.

*Funnel.* Interest and lone clicks are `pv`; a share of the events return to an item seen shortly
before, `cart` or `fav` first, `buy` only after that, and join the thread of the click they return to.
In a cycle the `buy` follows its `pv` at once.

Why attention can find the causes: the threads of one user have different topics, so the category
embedding (and, through co-occurrence, the item embedding) tells the threads apart, and a candidate
drawn at random from the catalogue is rarely in one. A click of an interest is best predicted from the
events of that interest alone, which are only a fifth of the history or so.

The truth file
--------------
`<output>.truth.npz`, read by `Truth.load`: `thread` and `mechanism` of every event of the log, in the
log's order, with `user_id` and `offsets` (CSR by user); the planted `interest_category`,
`interest_strength`, `interest_slope` [users, interests] (category 0: unused); and, for each user's last
`truth_targets` events, `target_user`, `target_position`, `cause_offsets`, `cause_position`
(CSR by target; positions count a user's events from 0).

Same parameters and seed, same bytes. 20 million rows take seconds; memory is one chunk of about a
million events plus five bytes an event for the truth.
"""

from data_prep.synthetic.config import (
    BEHAVIORS,
    PRESETS,
    WINDOW_END,
    WINDOW_START,
    Catalogue,
    Dormancy,
    Fate,
    Population,
    Purchases,
    Stories,
    SyntheticLog,
    Taste,
)
from data_prep.synthetic.truth import MECHANISMS, Truth, truth_path
from data_prep.synthetic.writing import write_log

__all__ = [
    "BEHAVIORS",
    "MECHANISMS",
    "PRESETS",
    "WINDOW_END",
    "WINDOW_START",
    "Catalogue",
    "Dormancy",
    "Fate",
    "Population",
    "Purchases",
    "Stories",
    "SyntheticLog",
    "Taste",
    "Truth",
    "truth_path",
    "write_log",
]
