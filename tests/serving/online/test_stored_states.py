"""A state that was stored as bytes scores as the history that it was made from."""

import numpy as np
import pytest
import tensorflow as tf

from dgin_tf.models.registry import MODELS
from dgin_tf.serving.export.state_names import flatten_state, unflatten_state
from dgin_tf.stores.lmdb_store import LmdbStore
from dgin_tf.stores.values import decode_value, encode_value
from tests.conformance.catalogue import SMALL, batch, build
from tests.prepared import make_schema

OF = {"model_version": "3", "schema": make_schema().fingerprint()}


@pytest.mark.parametrize("name", sorted(set(MODELS) & set(SMALL)))
def test_a_state_from_the_store_scores_as_the_whole_history(name, tmp_path):
    model, features = build(name), batch()
    state = flatten_state(model.encode_user(features))
    state = {key: value.numpy() for key, value in state.items()}
    users = features["user_id"].numpy().tolist()
    with LmdbStore(tmp_path / "states") as store:
        store.put_many(
            {
                user: encode_value({k: v[row] for k, v in state.items()}, sequence=1, **OF)
                for row, user in enumerate(users)
            }
        )
        values_read = [decode_value(value, **OF).arrays for value in store.get_many(users)]
    state_tensors = {
        key: tf.constant(np.stack([arrays[key] for arrays in values_read])) for key in state
    }
    scores = model.score(unflatten_state(state_tensors), features)["logits"]
    np.testing.assert_allclose(scores, model(features)["logits"], rtol=1e-6, atol=1e-6)
