"""Settings common to the configs of this folder: rows of the paper's tables, and its training."""

from typing import Any

import ml_collections

from experiments.running import defaults

VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    "encode_printed": ("encode", {"metric": "printed"}),
    "encode_gradient": ("encode", {"stop_gradient": False}),
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
    **{f"encode_{k}_clusters": ("encode", {"clusters": k}) for k in (10, 20, 40, 50, 100, 300)},
    **{f"encode_{m}_dims": ("encode", {"dim": m}) for m in (2, 6, 8, 10, 12, 14, 16)},
}
# Table 1 of the paper: of all searches k = 50, and of all hashes n = 64, here tables of 4 bits for SDIM.
COMMON: dict[str, dict[str, Any]] = {"ubr4ctr": {"k": 50}, "sdim": {"bits": 64, "tau": 4}}
MULTIPLY = "encode_multiply"


def get_config(model: str, max_history: int, short_events: int = 50) -> ml_collections.ConfigDict:
    """Settings of the paper (section 4.2) of a model.

    Args:
      model: a name of `dgin_tf.models.registry.MODELS`, such as `encode`; or a row of tables 3 to 7
        and of figure 3: see `VARIANTS`.
      max_history: events that the model reads, the newest among them.
      short_events: number of the newest events, the real-time part; DIN reads these alone.
    """
    if model.startswith(MULTIPLY):
        raise ValueError(
            f"ENCODE multiplies by beta now: write {model.replace(MULTIPLY, 'encode')!r}; the form that "
            "divides, as Eq. (9) is printed, is 'encode_printed'."
        )
    name, settings = VARIANTS.get(model, (model, COMMON.get(model, {})))
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
