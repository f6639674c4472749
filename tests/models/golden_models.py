"""Whole published models as golden vectors: their schema, their weights by name, their batch."""

import numpy as np
import tensorflow as tf

from dgin_tf.layers.multi_head_attention import MultiHeadAttention
from dgin_tf.layers.tower import Tower
from dgin_tf.schema import CANDIDATE, HISTORY, USER, Field, Schema
from tests import golden_files


def schema(items: int, categories: int, users: int, time: int) -> Schema:
    """User, item and category, as every golden model has them."""
    both = (HISTORY, CANDIDATE)
    return Schema(
        fields=(
            Field("user_id", (USER,), "user_id"),
            Field("item_id", both, "item_id"),
            Field("category_id", both, "category_id"),
        ),
        vocabulary_sizes={"user_id": users, "item_id": items, "category_id": categories},
        max_history=time,
    )


def batch(golden, user: str) -> dict[str, tf.Tensor]:
    """One candidate for each user."""
    candidate = tf.ones([len(golden["in_item"]), 1], tf.bool)
    label = golden.get("in_label")
    label = golden["in_target_click_noclick"][:, 0] if label is None else label
    return {
        "user_id": tf.constant(golden[f"in_{user}"]),
        "hist_item_id": tf.constant(golden["in_item_hist"]),
        "hist_category_id": tf.constant(golden["in_cate_hist"]),
        "hist_mask": tf.constant(golden["in_mask"] > 0),
        "cand_item_id": tf.constant(golden["in_item"][:, None]),
        "cand_category_id": tf.constant(golden["in_cate"][:, None]),
        "cand_mask": candidate,
        "label": tf.constant(label[:, None]),
    }


def assign_dense(dense, weights, name: str) -> None:
    """Kernel and bias of a dense layer."""
    dense.kernel.assign(weights[f"{name}_kernel"])
    dense.bias.assign(weights[f"{name}_bias"])


def assign_dense_layers(tower, weights) -> None:
    """`dense<i>_kernel` and `dense<i>_bias` of a tower's hidden layers and its output."""
    for layer, dense in enumerate((*tower.hidden, tower.output_layer), start=1):
        assign_dense(dense, weights, f"dense{layer}")


def relu_tower(weights, inputs) -> tf.Tensor:
    """Logits of LongCTR's head, which has the weights `dense<i>_*`, on inputs [users, 1, dim]."""
    tower = Tower(golden_files.hidden_units(weights), activation="relu", normalization="none")
    tower(inputs)
    assign_dense_layers(tower, weights)
    return tower(inputs)


def multi_head_attention(
    weights, heads: int, arguments, key: str = "k", **options
) -> MultiHeadAttention:
    """Multi-head attention of PyTorch code, as wide as its `q_kernel`, with its four kernels.

    Args:
      weights: `q_kernel`, `v_kernel`, `o_kernel` and that of the keys; none is the identity.
      heads: how many.
      arguments: query, keys and mask that the layer is built with.
      key: first letter of the keys' kernel.
      **options: of the layer.
    """
    identity = np.eye(arguments[0].shape[-1], dtype=np.float32)
    query, keys, values, output = (
        weights.get(f"{name}_kernel", identity) for name in ("q", key, "v", "o")
    )
    layer = MultiHeadAttention(heads, key_dim=query.shape[1] // heads, **options)
    layer(*arguments)
    layer.query_kernel.assign(query)
    layer.key_kernel.assign(keys)
    layer.value_kernel.assign(values)
    layer.output_kernel.assign(output.T)
    return layer


def public_interest(attention, query, keys, mask) -> tf.Tensor:
    """Interests [users, 1, dim] as in public code, whose softmax over padding alone is uniform.

    Our layer gives zero to a user without events. All others have what it gives.
    """
    interest, weights = attention(query, keys, mask)
    uniform = tf.fill(weights.shape, 1.0 / keys.shape[1])
    has_events = tf.reduce_any(mask, axis=1)[:, tf.newaxis, tf.newaxis]
    tf.debugging.assert_equal(tf.where(has_events, 0.0, interest), 0.0)
    return tf.where(has_events, interest, attention.read(uniform, keys))


def assign_unit(unit, weights) -> None:
    """`dense<i>_kernel` and `dense<i>_bias` of an activation unit."""
    unit.kernel.assign(weights["dense1_kernel"])
    unit.bias.assign(weights["dense1_bias"])
    for layer, dense in enumerate(unit.dense, start=2):
        assign_dense(dense, weights, f"dense{layer}")


def assign_dice(unit, weights) -> None:
    """`dice<i>_alpha` and running statistics of an activation unit of PyTorch code."""
    for layer, dice in enumerate(unit.activations, start=1):
        dice.alpha.assign(weights[f"dice{layer}_alpha"])
        dice.moments.mean.assign(weights[f"dice{layer}_bn_running_mean"])
        dice.moments.variance.assign(weights[f"dice{layer}_bn_running_var"])


def assign_tables(model, item, category, user) -> None:
    """The three embedding tables."""
    tables = model.embedding.tables
    for name, table in (("item_id", item), ("category_id", category), ("user_id", user)):
        tables[name].assign(table)


def assign_released_head(tower, weights) -> None:
    """`w_head_*` of a model of mouna99/dien: batch norm, three dense layers, two Dice."""
    norm = tower.batch_norm
    norm.gamma.assign(weights["bn_gamma"])
    norm.beta.assign(weights["bn_beta"])
    norm.moments.mean.assign(weights["bn_moving_mean"])
    norm.moments.variance.assign(weights["bn_moving_variance"])
    assign_dense_layers(tower, weights)
    for layer, dice in enumerate(tower.activations, start=1):
        dice.alpha.assign(weights[f"dice{layer}_alpha"])
