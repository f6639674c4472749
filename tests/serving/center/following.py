"""A center with a model that is small enough to be followed by hand, and events for it."""

import json

import numpy as np

from dgin_tf.serving.center.dead_letters import DeadLetters
from dgin_tf.serving.center.events import EventParser
from dgin_tf.serving.center.interest_center import InterestCenter
from dgin_tf.serving.center.user_states import UserStates
from dgin_tf.stores.state_store import InMemoryStore, StoreError
from tests.prepared import ITEMS, category_of, make_schema

SCHEMA = make_schema()
CATALOGUE = {"category_id": category_of(np.arange(ITEMS))}
METADATA = {
    "name": "halving",
    "version": 3,
    "weights_digest": "ab12",
    "schema_fingerprint": SCHEMA.fingerprint(),
}


class Halving:
    """An event halves the state and adds its item: order, loss and repetition all show."""

    schema, catalogue, metadata = SCHEMA, CATALOGUE, METADATA

    def empty(self, user_ids):
        return [{"sum": np.zeros(1), "user": np.array([float(user)])} for user in user_ids]

    def encode(self, histories, users):
        return self.update(self.empty(users["user_id"]), histories)

    def update(self, states, events):
        return [
            {**state, "sum": np.array([halved(history["item_id"], state["sum"][0])])}
            for state, history in zip(states, events, strict=True)
        ]


class Failing(InMemoryStore):
    """A store whose next operations fail as often as `failures` says."""

    failures = 0
    writes_first = False

    def swap_many(self, reference, values):
        if self.failures:
            self.failures -= 1
            if self.writes_first:  # it did what was asked, but the answer was lost
                super().swap_many(reference, values)
            raise StoreError("the store does not answer.")
        return super().swap_many(reference, values)

    def scoped(self, namespace):
        self._namespace = namespace
        return self


def halved(items, start=0.0):
    for item in items:
        start = start / 2 + item
    return start


def event(person, sequence, item, time=None, **more):
    content = {"user_id": person, "sequence": sequence, "item_id": item, "timestamp": time, **more}
    return json.dumps({**content, "timestamp": 1000 + sequence if time is None else time}).encode()


def make_center(store, folder, parser=None, said=None, **settings):
    say = (lambda line: None) if said is None else said.append
    return InterestCenter(
        Halving(),
        UserStates(store, METADATA),
        parser or EventParser(SCHEMA, CATALOGUE),
        DeadLetters(folder / "letters"),
        say=say,
        **settings,
    )


def sums(store):
    """Person -> what the items have come to."""
    return {p: s.arrays["sum"][0] for p, s in UserStates(store, METADATA).items()}


def reasons(folder):
    return [json.loads(line)["reason"] for line in (folder / "letters").read_text().splitlines()]
