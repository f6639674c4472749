"""Deep Session Interest Network (Feng et al., IJCAI 2019), in DGIN's tables the row of sessions."""

import dataclasses

import tensorflow as tf

from dgin_tf.group_spec import SESSION_GAP
from dgin_tf.layers.positions import LearnedPositions
from dgin_tf.layers.sessions.bi_lstm import MEAN, BiLSTM
from dgin_tf.layers.sessions.bias_encoding import BiasEncoding
from dgin_tf.layers.sessions.session_interest import SessionInterest
from dgin_tf.layers.sessions.transformer import ReleasedSessionTransformer, SessionTransformer
from dgin_tf.layers.state_attention import BilinearAttention
from dgin_tf.layers.target_attention import ActivationUnit, TargetAttention
from dgin_tf.models.base import CTRModel, ModelConfig
from dgin_tf.models.dien import event_width
from dgin_tf.models.released import RELEASED, check_variant
from dgin_tf.schema import HISTORY, Schema


@tf.keras.utils.register_keras_serializable("dgin_tf")
class DSIN(CTRModel):
    """Section 3: sessions, each read by self-attention, their sequence by a Bi-LSTM, both attended to.

    `variant="released"` is the authors' code (shenweichen/DSIN): its own transformer, two layers of
    LSTMs without peepholes whose directions are averaged, 64-16 sigmoid activation units, ReLU in
    the head, and padding that is read like events. Its dropout of .2 between the LSTMs and its rule
    that sessions of one or two events are dropped are left out.

    Args:
      schema: the data.
      config: embedding and head.
      variant: "paper" or "released".
      sessions: K, how many of the newest sessions are kept.
      events: T, how many of a session's newest events are read.
      heads: of the self-attention; the released code has eight of one channel.
      bias_encoding: whether Eq. (2) says where an event is; learned positions in its session do
        otherwise ("DSIN-PE"), as in the published script.
      gap: seconds without an event that end a session.

    Raises:
      ValueError: the schema has no times, or the heads do not divide the width of an event.
    """

    def __init__(
        self,
        schema: Schema,
        config: ModelConfig | None = None,
        variant: str = "paper",
        sessions: int = 5,
        events: int = 10,
        heads: int = 2,
        bias_encoding: bool = True,
        gap: int = SESSION_GAP,
    ):
        check_variant(variant)
        if not any(field.name == "timestamp" for field in schema.with_role(HISTORY)):
            raise ValueError(
                "DSIN divides histories into sessions by the times of events; the schema has none. "
                "Prepare the data with timestamps."
            )
        config = config or ModelConfig()
        encoding: tf.keras.layers.Layer | None = (
            BiasEncoding(name="encoding") if bias_encoding else None
        )
        extractor: tf.keras.layers.Layer
        if variant == RELEASED:
            config = _released_head(config)
            positions = not bias_encoding  # which this transformer adds itself
            extractor = ReleasedSessionTransformer(heads, positions=positions, name="extractor")
            interacting = BiLSTM(layers=2, peepholes=False, merge=MEAN, name="interacting")
            attentions = (_released_attention("attention"), _released_attention("state_attention"))
        else:
            encoding = encoding or LearnedPositions(name="encoding")
            extractor = SessionTransformer(heads, name="extractor")
            interacting = BiLSTM(name="interacting")
            width = event_width(schema, config)
            attentions = (
                BilinearAttention(width, name="attention"),
                BilinearAttention(2 * width, name="state_attention"),
            )
        encoder = SessionInterest(
            extractor, interacting, attentions, encoding, sessions, events, gap, name="interest"
        )
        super().__init__(schema, {"interest": encoder}, config, name="dsin")


def _released_attention(name: str) -> TargetAttention:
    return TargetAttention(
        ActivationUnit((64, 16), "sigmoid", name="unit"), softmax=True, name=name
    )


def _released_head(config: ModelConfig) -> ModelConfig:
    """The released head: ReLU, nothing normalized, the user's id beside the rest."""
    fields = config.user_fields
    return dataclasses.replace(
        config,
        user_fields=("user_id",) if fields is None else fields,
        activation="relu",
        normalization="none",
    )
