"""Deep Session Interest Network (Feng et al., IJCAI 2019), in DGIN's tables the row of sessions."""

import dataclasses

from dgin_tf.group_spec import SESSION_GAP
from dgin_tf.layers.interest_encoder import INTEREST
from dgin_tf.layers.positions import LearnedPositions
from dgin_tf.layers.sessions.bi_lstm import BiLSTM
from dgin_tf.layers.sessions.bias_encoding import BiasEncoding
from dgin_tf.layers.sessions.session_interest import SessionInterest
from dgin_tf.layers.sessions.transformer import SessionTransformer
from dgin_tf.layers.state_attention import BilinearAttention
from dgin_tf.models.base import CTRModel, ModelConfig
from dgin_tf.models.dien import event_width
from dgin_tf.schema import HISTORY, TIMESTAMP, Schema


class DSIN(CTRModel, registry_name="dsin"):
    """Section 3: sessions by self-attention, their sequence by a Bi-LSTM, attention to both.

    Args:
      schema: the data.
      config: embedding and head.
      encoder: the session interests; None for those of the default `Settings`.

    Raises:
      ValueError: the schema has no times, or the heads do not divide the width of an event.
    """

    @dataclasses.dataclass(frozen=True)
    class Settings:
        """Settings of the session interests.

        Attributes:
          sessions: K, the number of newest sessions.
          events: T, the number of newest events of a session.
          heads: of the self-attention.
          bias_encoding: whether positions are encoded by Eq. (2); otherwise by learned positions within
            a session ("DSIN-PE").
          gap: seconds without an event that end a session.
        """

        sessions: int = 5
        events: int = 10
        heads: int = 2
        bias_encoding: bool = True
        gap: int = SESSION_GAP

    def __init__(
        self,
        schema: Schema,
        config: ModelConfig | None = None,
        encoder: SessionInterest | None = None,
    ):
        if TIMESTAMP not in [field.name for field in schema.with_role(HISTORY)]:
            raise ValueError(
                "DSIN divides histories into sessions by the times of events; the schema has none. "
                "Prepare the data with timestamps."
            )
        encoder = encoder or self.blocks(schema, config, self.Settings())["encoder"]
        super().__init__(schema, {INTEREST: encoder}, config, name="dsin")

    @property
    def encoder(self) -> SessionInterest:
        """The session interests."""
        return self.encoders[INTEREST]

    @classmethod
    def blocks(cls, schema, config, settings):
        """The session interests of the paper."""
        width = event_width(schema, config)
        encoding = BiasEncoding if settings.bias_encoding else LearnedPositions
        encoder = SessionInterest(
            SessionTransformer(settings.heads, name="extractor"),
            BiLSTM(name="interacting"),
            (
                BilinearAttention(width, name="attention"),
                BilinearAttention(2 * width, name="state_attention"),
            ),
            encoding(name="encoding"),
            settings.sessions,
            settings.events,
            settings.gap,
            name=INTEREST,
        )
        return {"encoder": encoder}
