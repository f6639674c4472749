"""Settings common to the configs of this folder: rows of the paper's tables, and its training."""

from typing import Any

import ml_collections

from experiments.running import defaults

PLAIN: dict[str, Any] = {"utilization_weight": 0.0, "top_k": 0}
VARIANTS: dict[str, dict[str, Any]] = {
    "mimn_4_slots": {**PLAIN, "slots": 4},
    "mimn_6_slots": {**PLAIN, "slots": 6},
    "mimn_8_slots": {**PLAIN, "slots": 8},
    "mimn_without_induction": {"top_k": 0},
    "mimn_without_utilization": {"utilization_weight": 0.0},
    "mimn_like_yardstick": {**PLAIN, "slots": 4},
    "mimn_like_yardstick_released": {**PLAIN, "slots": 4},
    "mimn_4_slots_released": {**PLAIN, "slots": 4},
    "mimn_without_induction_released": {"top_k": 0},
}


def get_config(model: str, max_history: int) -> ml_collections.ConfigDict:
    """Settings of the paper (section 5.1) of a model.

    Args:
      model: a name of `dgin_tf.models.registry.MODELS`, such as `mimn`; or a row of tables 3 and 4:
        `mimn_4_slots`, `mimn_6_slots` and `mimn_8_slots` are the Turing machine alone,
        `mimn_without_induction` is the one with utilization regularization, and
        `mimn_without_utilization`, which the paper does not have, the one with the induction unit.
        Those that end in `_released` are of the authors' code; `mimn_like_yardstick` is what
        `experiments.mimn.paper.YARDSTICKS` were measured with, in the row's other settings too.
      max_history: events that the model reads.
    """
    name = model
    if model in VARIANTS:
        name = "mimn_released" if model.endswith("_released") else "mimn"
    config = defaults.get_config(name)
    config.model.update(VARIANTS.get(model, {}))
    config.network.embedding_dim = 16
    # As in the authors' code; Embedding&MLP is this sum, and the others have it always.
    config.network.history_sum = model in ("din", "augru", "dien")
    config.data.max_history = max_history
    config.optimizer.decay = 0.9
    return config
