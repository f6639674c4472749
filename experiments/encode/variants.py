"""Settings common to the configs of this folder: rows of the paper's tables, and its training."""

from typing import Any

import ml_collections

from experiments.running import defaults

VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    "encode_multiply": ("encode", {"multiply": True}),
    "encode_minus": ("encode", {"metric": "dot"}),
    "encode_neighbours": ("encode", {"sampling": "neighbors"}),
    "encode_batch": ("encode", {"sampling": "batch"}),
    "encode_no_loss": ("encode", {"loss": "none"}),
    "encode_mse": ("encode", {"loss": "mse"}),
    "encode_n_pair": ("encode", {"loss": "n_pair"}),
    "encode_fixed": ("encode", {"loss": "fixed"}),
    "encode_random": ("encode", {"clustering": "random"}),
    "encode_dynamic_routing": ("encode", {"clustering": "dynamic_routing"}),
    "encode_agglomerative": ("encode", {"clustering": "agglomerative"}),
    "encode_multiply_random": ("encode", {"multiply": True, "clustering": "random"}),
    "encode_multiply_no_loss": ("encode", {"multiply": True, "loss": "none"}),
    **{
        f"encode_multiply_{k}_clusters": ("encode", {"multiply": True, "clusters": k})
        for k in (100, 300)
    },
    **{f"encode_{k}_clusters": ("encode", {"clusters": k}) for k in (10, 20, 40, 50)},
    **{f"encode_{m}_dims": ("encode", {"dim": m}) for m in (2, 6, 8, 10, 12, 14, 16)},
}


def get_config(model: str, max_history: int, short_events: int = 50) -> ml_collections.ConfigDict:
    """Settings of the paper (section 4.2) of a model.

    Args:
      model: a name of `dgin_tf.models.registry.MODELS`, such as `encode`; or a row of tables 3 to 7
        and of figure 3: see `VARIANTS`.
      max_history: events that the model reads, the newest among them.
      short_events: number of the newest events, the real-time part; DIN reads these alone.
    """
    name, settings = VARIANTS.get(model, (model, {}))
    config = defaults.get_config(name)
    config.model.update(settings)
    if "short_events" in config.model:
        config.model.short_events = short_events
        config.model.short_reader = "din"  # ENCODE's, for all rows
    config.network.embedding_dim = 16  # two fields, so that an event is 32 wide
    config.data.max_history = short_events if name == "din" else max_history
    config.data.batch_rows = 1024
    config.loop.epochs = 1
    config.optimizer.learning_rate = 1e-4
    return config
