"""ETA, SDIM and TWIN against LongCTR, part by part.

LongCTR's long history contains the short one, and its short one has a mask that is a place too early,
so that its parts are compared on the inputs that it really has.
"""

import numpy as np
import pytest
import tensorflow as tf

from dgin_tf.layers.events import History, Target, embed_history, embed_ids
from dgin_tf.layers.search.eta import SIGNATURES, SimHashSearch
from dgin_tf.layers.search.readers import ExactSearchUnit
from dgin_tf.layers.search.sdim import HashedInterest
from dgin_tf.layers.search.unit import TOPK_INDICES, TOPK_MASK, SearchedInterest
from dgin_tf.losses import target_loss
from dgin_tf.ops import signatures
from dgin_tf.released.twin import ReleasedConsistentInterest
from tests import golden_files
from tests.models import golden_models


class Golden:
    """A golden file as layers take it; item and category tables as one function of raw features."""

    def __init__(self, stem):
        self.file = file = golden_files.load(stem)
        self.mask = tf.constant(file["in_mask"] > 0)
        tables = {
            f"{field}_id": tf.Variable(file[f"w_emb_{name}_id"])
            for name, field in (("item", "item"), ("cate", "category"))
        }
        self.features = {
            "item_id": tf.constant(file["in_item_hist"]),
            "category_id": tf.constant(file["in_cate_hist"]),
        }
        self.raw_events = embed_ids(tables, self.features, tf.float32)
        self.history = embed_history(
            History(None, self.mask, self.features, tables=tables), tf.float32
        )
        candidate = {
            "item_id": tf.constant(file["in_item"][:, None]),
            "category_id": tf.constant(file["in_cate"][:, None]),
        }
        embedding = embed_ids(tables, candidate, tf.float32)
        candidate_mask = tf.ones([len(self.mask), 1], tf.bool)
        self.target = Target(embedding, candidate_mask, {}, tables)

    def attention(self, name, key="k"):
        """LongCTR's multi-head attention with the file's weights, output kernels transposed."""
        return golden_models.multi_head_attention(
            golden_files.weights(self.file, f"{name}_attention_W_"),
            int(self.file["cfg_heads"]),
            (self.target.embedding, self.history.events, self.mask),
            key,
            name="attention",
        )

    def short_interest(self):
        places = self.file["mid_short_positions_as_used"]
        events = tf.gather(self.raw_events, places, axis=1)
        mask = tf.constant(self.file["mid_short_mask_as_used"] > 0)
        attention = self.attention("short")
        return golden_models.public_interest(attention, self.target.embedding, events, mask)

    def check_prediction(self, *interests):
        """Compares the head on [user, target, interests], its probability and its loss."""
        user = tf.gather(self.file["w_emb_user_id"], self.file["in_user"])[:, None]
        joined = tf.concat([user, self.target.embedding, *interests], axis=-1)
        golden_files.assert_close(joined[:, 0], self.file["mid_head_input"])
        logits = golden_models.relu_tower(golden_files.weights(self.file, "dnn_"), joined)
        golden_files.assert_close(tf.sigmoid(logits[:, 0]), self.file["out_y_pred"])
        loss = target_loss(logits, tf.constant(self.file["in_label"][:, None]), self.target.mask)
        golden_files.assert_close(loss, self.file["out_loss"])


def hyperplanes(layer, vectors, rotations):
    """Sets a layer's random directions."""
    layer(vectors)
    layer.directions.assign(rotations)


def test_golden_longctr_eta():
    golden = Golden("longctr_eta")
    file = golden.file
    unit = SimHashSearch(int(file["cfg_topk"]), int(file["cfg_hash_bits"]))
    hyperplanes(unit.hyperplanes, golden.history.events, file["w_random_rotations"][0])
    layer = SearchedInterest(unit, ExactSearchUnit(golden.attention("long")))
    state = layer.encode(golden.history)
    bits = file["mid_sequence_hash_bits"] > 0
    real = file["in_mask"] > 0
    np.testing.assert_array_equal(
        state[SIGNATURES].numpy()[real], signatures.pack(tf.constant(bits)).numpy()[real]
    )
    outputs = layer.interest(state, golden.target)
    for user in range(len(real)):
        mask = outputs[TOPK_MASK][user, 0].numpy()
        wanted = file["mid_topk_index"][user][file["mid_topk_mask"][user] > 0]
        assert set(outputs[TOPK_INDICES][user, 0].numpy()[mask]) == set(wanted)
    short, long = golden.short_interest(), outputs["interest"]
    golden_files.assert_close(short[:, 0], file["mid_short_interest"])
    golden_files.assert_close(long[:, 0], file["mid_long_interest"])
    golden.check_prediction(short, long)


@pytest.mark.parametrize(("norm", "name"), [("none", "no_l2"), ("l2", "l2")])
def test_golden_longctr_sdim(norm, name):
    golden = Golden("longctr_sdim")
    file = golden.file
    tables, tau = int(file["cfg_num_hashes"]), int(file["cfg_hash_bits"])
    layer = HashedInterest(tables * tau, tau, norm)
    rotations = file["w_random_rotations"][0].reshape(-1, tables * tau)
    hyperplanes(layer.hyperplanes, golden.history.events, rotations)
    outputs = layer.interest(layer.encode(golden.history), golden.target)
    buckets = signatures.buckets(layer.hyperplanes(golden.history.events), tau).numpy()
    real = file["in_mask"] > 0
    np.testing.assert_array_equal(buckets[real], file["mid_sequence_bucket"][real])
    interest = outputs["interest"]
    golden_files.assert_close(interest[:, 0], file[f"out_hash_attention_{name}"])
    short = golden.short_interest()
    golden_files.assert_close(short[:, 0], file["mid_short_interest"])
    if bool(file["cfg_model_uses_l2"]) == (norm == "l2"):
        golden.check_prediction(interest, short)


def test_golden_longctr_twin():
    golden = Golden("longctr_twin")
    file = golden.file
    attention = golden.attention("long", key="h")
    layer = ReleasedConsistentInterest(attention, int(file["cfg_topk"]))
    outputs = layer.interest(layer.encode(golden.history), golden.target)
    scores = attention.scores(golden.target.embedding, golden.history.events)
    real = np.broadcast_to(file["in_mask"][:, None] > 0, file["mid_gsu_scores"].shape)
    golden_files.assert_close(scores[:, 0].numpy()[real], file["mid_gsu_scores"][real])
    weights = np.take_along_axis(
        outputs["attention"][:, 0].numpy(), file["mid_topk_index_per_head"], axis=-1
    )
    golden_files.assert_close(weights, file["mid_topk_softmax"])
    short, long = golden.short_interest(), outputs["interest"]
    golden_files.assert_close(long[:, 0], file["mid_long_interest"])
    golden.check_prediction(short, long)
