"""Settings common to the configs of this folder: rows of the paper's tables, and its head."""

from typing import Any

import ml_collections

from experiments.running import defaults
from experiments.sim import variants as searching

CLICK = "pv"  # Taobao's word for a click
CLICK_ONLY = "_click_only"

ROWS: dict[str, dict[str, Any]] = {
    "dgin": {},
    "dgin_simple": {"statistical": False, "aggregated": False, "target_module": False},
    "dgin_statistical": {"aggregated": False, "target_module": False},
    "dgin_aggregated": {"target_module": False},
    "dgin_session": {"key": "session", "target_module": False},
    "dgin_category": {"key": "category_id"},
    "dgin_category_without_tm": {"key": "category_id", "target_module": False},
}
SHORT = ("din", "dien")
SESSIONS, SESSION_EVENTS = 20, 25  # of DSIN on a long history; its authors keep 5 of 10


def get_config(model: str, max_history: int, short_events: int) -> ml_collections.ConfigDict:
    """Settings of a row.

    Args:
      model: a name of `ROWS` or of `dgin_tf.models.registry.MODELS`; with `_click_only` behind it, of
        all these events the clicks alone are read.
      max_history: events that the model reads in all.
      short_events: number of the newest events, the short part, which DIN and DIEN read alone.
    """
    is_click_only, model = model.endswith(CLICK_ONLY), model.removesuffix(CLICK_ONLY)
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
    if is_click_only:
        config.network.behavior_types = (CLICK,)
        if model in SHORT:  # the newest clicks, however many other events are among them
            config.data.max_history = max_history
            config.network.newest_events = short_events
    config.network.activation = "prelu"
    config.network.two_way = True
    return config


def start_attending(config: ml_collections.ConfigDict) -> ml_collections.ConfigDict:
    """Initializes attention over hundreds of groups at a candidate's own (figures: BUILD_NOTES.md).

    These were found on DGIN's rows; `experiments.tables --choose_starts` chooses for every row.

    Embeddings start large, so that their scores differ. The means of the head's inputs then move by
    their own deviation within a hundred steps, and the moving averages of its normalization follow.
    """
    config.network.embedding_limit = 2.0
    config.network.momentum = 0.9
    return config
