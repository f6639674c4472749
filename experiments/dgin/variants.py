"""What the configs of this folder share: the rows of the paper's tables by name, and its head."""

from typing import Any

import ml_collections

from experiments.running import defaults
from experiments.sim import variants as searching

CLICK = "pv"  # Taobao's word for a click

ROWS: dict[str, dict[str, Any]] = {
    "dgin": {},
    "dgin_simple": {"statistical": False, "aggregated": False, "target_module": False},
    "dgin_statistical": {"aggregated": False, "target_module": False},
    "dgin_aggregated": {"target_module": False},
    "dgin_click_only": {"behavior_types": (CLICK,)},
    "dgin_session": {"key": "session", "target_module": False},
    "dgin_category": {"key": "category_id"},
    "dgin_category_without_tm": {"key": "category_id", "target_module": False},
}
SHORT = ("din", "dien")
SESSIONS, SESSION_EVENTS = 20, 25  # of DSIN on a long history; its authors keep 5 of 10


def get_config(model: str, max_history: int, short_events: int) -> ml_collections.ConfigDict:
    """The settings of a row.

    Args:
      model: a name of `ROWS` or of `dgin_tf.models.registry.MODELS`.
      max_history: events that the model sees in all.
      short_events: how many of them are the short part, all that DIN and DIEN see.
    """
    if model in ROWS:
        config = defaults.get_config("dgin")
        config.model.update(ROWS[model])
        config.data.max_history = max_history
    else:
        config = searching.get_config(model, max_history, short_events)
        if model in SHORT:
            config.data.max_history = short_events
        if model == "dsin":
            config.model.update(sessions=SESSIONS, events=SESSION_EVENTS)
    config.network.activation = "prelu"
    config.network.two_way = True
    return config


def start_attending(config: ml_collections.ConfigDict) -> None:
    """Has attention over hundreds of groups start at a candidate's own (BUILD_NOTES.md has the figures).

    Embeddings start large, so that scores tell them apart. The averages that the head normalizes then
    move by their own deviation within a hundred steps, which moving averages have to follow.
    """
    config.network.embedding_limit = 2.0
    config.network.momentum = 0.9
