"""Settings common to the configs of this folder: "with Timeinfo" by name, lengths of histories."""

import ml_collections

from experiments.running import defaults

TIME = "_time"


def get_config(model: str, max_history: int, short_events: int) -> ml_collections.ConfigDict:
    """Default settings of a model on histories in two parts.

    Args:
      model: a name of `dgin_tf.models.registry.MODELS`, such as `sim_soft`; `sim_soft_time` is that
        model with time gaps.
      max_history: events that the model reads in all.
      short_events: number of the newest events, the short part, where the model has one; a model
        without a long part reads these alone, as in the paper's tables.
    """
    base = model.removesuffix(TIME)
    config = defaults.get_config(base)
    if model != base:
        config.model.time = True
    if "short_reader" in config.model:
        config.model.short_events = short_events
        config.model.short_reader = "din"  # SIM's, for all rows
    elif "short_events" in config.model:
        config.model.short_events = short_events
    config.data.max_history = short_events if base == "din" else max_history
    return config
