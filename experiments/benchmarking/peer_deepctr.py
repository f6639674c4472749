"""Training steps of DeepCTR's DIN and DIEN on our batches, in an environment that has DeepCTR.

    python peer_deepctr.py '{"model": "dien", "batches": "batches.npz", ...}'

DeepCTR (0.9) was written for TensorFlow 1 and early 2: its DIEN needs graph mode, and names that
TensorFlow has since removed. They are restored here, from outside; none of its code is changed. Optimizer and loss are those of its documentation, `compile("adam", "binary_crossentropy")`;
the L2 term of the embeddings, which would read the whole tables in each step, is off.
"""

import json
import os
import sys
import types

os.environ["TF_USE_LEGACY_KERAS"] = "1"

import interleaving
import numpy as np
import tensorflow as tf
from tensorflow.python.ops import array_ops, control_flow_ops, math_ops
from tensorflow.python.util import nest


def restore_removed_names() -> None:
    """Restores names of TensorFlow that DeepCTR imports and newer versions lack."""
    replacements = {
        nest: {"is_sequence": nest.is_nested},
        array_ops: {"stack": tf.stack, "unstack": tf.unstack},
        control_flow_ops: {
            "Assert": tf.debugging.Assert,
            "cond": tf.compat.v1.cond,
            "while_loop": tf.compat.v1.while_loop,
        },
        math_ops: {"to_int32": tf.compat.v1.to_int32},
    }
    for module, names in replacements.items():
        for name, value in names.items():
            if not hasattr(module, name):
                setattr(module, name, value)
    try:
        import tensorflow.python.ops.rnn_cell  # noqa: F401
    except ImportError:
        cells = types.ModuleType("tensorflow.python.ops.rnn_cell")
        cells.__dict__["RNNCell"] = tf.compat.v1.nn.rnn_cell.RNNCell
        cells.__dict__["__all__"] = ["RNNCell"]
        sys.modules[cells.__name__] = cells


def build(case: dict):
    """Builds the peer's model at the authors' sizes."""
    from deepctr.feature_column import SparseFeat, VarLenSparseFeat
    from deepctr.models import DIEN, DIN

    width, history = case["width"], case["history"]
    item = SparseFeat("item_id", case["items"], embedding_dim=width, embedding_name="item_id")
    category = SparseFeat(
        "category_id", case["categories"], embedding_dim=width, embedding_name="category_id"
    )
    columns = [SparseFeat("user_id", case["users"], embedding_dim=width), item, category]
    # Histories and sampled negatives share the tables of the candidates.
    prefixes = ["hist_"] + (["neg_hist_"] if case["model"] == "dien" else [])
    columns += [
        VarLenSparseFeat(
            SparseFeat(
                prefix + field.name, field.vocabulary_size, width, embedding_name=field.name
            ),
            maxlen=history,
            length_name="seq_length",
        )
        for prefix in prefixes
        for field in (item, category)
    ]
    head = {
        "dnn_hidden_units": (200, 80),
        "dnn_activation": "dice",
        "att_activation": "sigmoid",
        "att_weight_normalization": True,
        "l2_reg_embedding": 0,
    }
    names = ["item_id", "category_id"]
    if case["model"] == "din":
        return DIN(columns, names, att_hidden_size=(80, 40), **head)
    return DIEN(
        columns,
        names,
        gru_type="AUGRU",
        use_negsampling=True,
        att_hidden_units=(80, 40),
        **head,
    )


def load_batches(path: str, history: int) -> list[tuple[dict, np.ndarray]]:
    """Loads batches of users with one candidate each, under DeepCTR's names."""
    with np.load(path) as file:
        arrays = dict(file)  # [batches, users, ...]
    batches = []
    for n in range(len(arrays["label"])):
        inputs = {
            "user_id": arrays["user_id"][n],
            "item_id": arrays["cand_item_id"][n, :, 0],
            "category_id": arrays["cand_category_id"][n, :, 0],
            "hist_item_id": arrays["hist_item_id"][n],
            "hist_category_id": arrays["hist_category_id"][n],
            "seq_length": np.full(len(arrays["user_id"][n]), history),
        }
        for field in ("item_id", "category_id"):
            if f"hist_negative_{field}" in arrays:
                inputs[f"neg_hist_{field}"] = arrays[f"hist_negative_{field}"][n]
        batches.append((inputs, arrays["label"][n, :, 0]))
    return batches


def prepare(case: dict):
    """Builds, compiles and takes the first step."""
    restore_removed_names()
    if case["model"] == "dien":  # before anything else is built
        tf.compat.v1.disable_eager_execution()
    model = build(case)
    model.compile("adam", "binary_crossentropy")
    if case["model"] == "dien":
        # Its cells create variables that Keras does not track, and so does not initialize.
        tf.compat.v1.keras.backend.get_session().run(tf.compat.v1.global_variables_initializer())
    batches = load_batches(case["batches"], case["history"])
    batches = [({k: x[k] for k in model.input_names}, y) for x, y in batches]

    def step(number):
        inputs, label = batches[number % len(batches)]
        return model.train_on_batch(inputs, label)

    loss = float(np.ravel(step(0))[0])
    if not np.isfinite(loss):
        raise ValueError(f"the peer's first loss is {loss}.")
    step(1)

    def turn():
        return interleaving.rate(step, len(batches[0][1]), case["seconds"])

    return {"tensorflow": tf.__version__, "trainable": len(model.trainable_weights)}, turn


if __name__ == "__main__":
    settings = json.loads(sys.argv[1])
    interleaving.serve(lambda: prepare(settings))
