"""States of a few users that are encoded once more, because the stored ones are damaged."""

from collections.abc import Collection, Mapping

import numpy as np

from dgin_tf.inputs.pipeline import PreparedData
from dgin_tf.schema import HISTORY, HISTORY_MASK, USER, feature_name
from dgin_tf.serving.center.interest_center import Say
from dgin_tf.serving.center.progress import Progress
from dgin_tf.serving.center.state_updates import StateUpdater
from dgin_tf.serving.center.user_states import UserState
from dgin_tf.serving.user_records import RecordUsers

_BATCH_USERS = 256


class RebuiltStates:
    """Encodes users' histories of a prepared data set.

    Args:
      data: the data set.
      updater: the model.
      days: as for `RecordUsers`.
      say: takes the reason why none could be encoded.

    Raises:
      ValueError: the data follow another schema, or have no user ids.
    """

    def __init__(self, data: PreparedData, updater: StateUpdater, days: int, say: Say):
        self._data, self._updater, self._days, self._say = data, updater, days, say
        self._records(())  # data of another schema should be refused now, not at the first damage

    def __call__(self, users: Collection[int]) -> Mapping[int, UserState]:
        """User -> state, of those who are in the data. Reads all records until the users are found."""
        try:
            return self._encode(users)
        except (ValueError, OSError) as error:
            # Unreadable data must not stop the events of all others.
            self._say(f"no history could be read: {error}")
            return {}

    def _encode(self, users: Collection[int]) -> Mapping[int, UserState]:
        fields = {feature_name(HISTORY, f): f.name for f in self._data.schema.with_role(HISTORY)}
        user_features = [feature_name(USER, field) for field in self._data.schema.with_role(USER)]
        states: dict[int, UserState] = {}
        for batch in self._records(users).batches(_BATCH_USERS, lambda items, total, text: items):
            newest, features = batch.load(range(len(batch.users)))
            masks = features[HISTORY_MASK].astype(bool)
            histories = [
                {name: features[feature][row][masks[row]] for feature, name in fields.items()}
                for row in range(len(batch.users))
            ]
            profiles = {name: np.asarray(features[name]) for name in user_features}
            encoded = self._updater.encode(histories, profiles)
            for user, arrays, second in zip(batch.users, encoded, newest, strict=True):
                states[user] = UserState(arrays, Progress.up_to(second))
        return states

    def _records(self, users: Collection[int]) -> RecordUsers:
        return RecordUsers(self._data, self._updater.metadata, days=self._days, only=users)
