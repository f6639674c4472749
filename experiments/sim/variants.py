"""What the configs of this folder share: "with Timeinfo" by name, and the cut of the history."""

import ml_collections

from experiments.running import defaults

TIME = "_time"


def get_config(model: str, max_history: int, short_events: int) -> ml_collections.ConfigDict:
    """The default settings of a model on histories in two parts.

    Args:
      model: a name of `dgin_tf.models.registry.MODELS`, such as `sim_soft`; `sim_soft_time` is that
        model with time gaps.
      max_history: events that the model sees in all.
      short_events: how many of them are the short part, where the model has one; a model without a
        long part sees these alone, as in the paper's tables.
    """
    base = model.removesuffix(TIME)
    config = defaults.get_config(base)
    if model != base:
        config.model.time = True
    if "short_events" in config.model:
        config.model.short_events = short_events
    config.data.max_history = short_events if base == "din" else max_history
    return config
