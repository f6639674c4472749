"""The cache of groups: what it cannot use is computed again."""

import numpy as np
import pytest

from dgin_tf.serving.online.cached_groups import CachedGroups
from dgin_tf.stores.state_store import InMemoryStore
from tests.serving.center.following import METADATA


@pytest.mark.parametrize("length", [-3, 5])
def test_a_damaged_state_is_computed_again(length):
    store = InMemoryStore()
    cache = CachedGroups(store, METADATA)
    cache.write({7: (3, {"groups": np.ones([1, 2])}), 8: (3, {"groups": np.ones([1, 2])})})
    values = store.scoped("halving.3")
    values.put_many({7: values.get(7)[:length]})
    assert cache.read(7, 3) is None
    assert cache.read(8, 3) is not None
