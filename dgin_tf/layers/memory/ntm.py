"""Multi-channel user interest memory network (MIMN; Pi et al., KDD 2019, section 4 and figure 3).

`TuringMemory` is the left half of the figure: events in, a memory of a fixed size out (section 4.2),
with `UtilizationRegularization` (4.3) and `MemoryInduction` (4.4) where wanted. `MultiChannelMemory`
lets a candidate read what the memory holds. The formulas are in `dgin_tf.ops.ntm`.

The paper leaves the controller open. As in the released code it is a GRU that reads the event and
what was last read of the memory; a linear layer makes of its state the two keys, and the erase and
add vectors. "Every slot of memory is randomly initialized" (section 5.4), here to weights that learn.
Nor does it print what the right half reads of the memory. Here the candidate addresses the slots as
an event does (Eqs. 1-3), and attends to the channels; both are a request's work, and cost the same
however long the history was.
"""

from typing import Any

import tensorflow as tf

from dgin_tf.layers.auxiliary_loss import AuxiliaryLoss
from dgin_tf.layers.configured import KernelLayer, as_layer, copy_initializer
from dgin_tf.layers.events import History, State, Target
from dgin_tf.layers.interest_encoder import INTEREST
from dgin_tf.layers.memory.recurrent_memory import (
    RecurrentMemory,
    _MemoryEncoder,
    add_gru,
    add_linear,
    repeat_for_users,
)
from dgin_tf.layers.state_attention import ProjectedAttention
from dgin_tf.layers.target_attention import read_each
from dgin_tf.ops import ntm

_STAY = 4.0  # a slot's own logit in P_t at the start: .89 of its weight stays there, of 8 slots


class UtilizationRegularization(KernelLayer):
    """Memory utilization regularization, Eqs. (5)-(8): W_g and lambda.

    Hot items would write the same few slots again and again. The use of a slot so far decides how the
    weights of the next write are moved between slots, and a loss wants all slots written alike.

    Args:
      weight: lambda of Eq. (8), which the paper does not give. The released code has 0.001 too, but
        divides the loss by slots^2 and users once more.
      normalize_usage: whether Eq. (5) has g divided by the number of events so far. W_g then starts
        with P_t near the identity: Glorot's logits of so small a g are zero but for .06, where every
        event would be written into all slots alike.
      stop_gradient: whether the loss trains W_g alone, as the paper says, and not what addresses the
        slots too.
      kernel_initializer, kernel_regularizer: of W_g. It does not start at zeros, from which equal use
        would never leave: P_t is uniform there, and so is its gradient.

    Example:

      >>> layer = UtilizationRegularization()
      >>> write_weights = tf.nn.softmax(tf.random.normal([2, 3]))
      >>> layer(write_weights, tf.zeros([2, 3])).shape
      TensorShape([2, 3])
    """

    def __init__(
        self,
        weight: float = 1e-3,
        normalize_usage: bool = False,
        stop_gradient: bool = False,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.weight = weight
        self.normalize_usage = normalize_usage
        self.stop_gradient = stop_gradient

    def build(self, input_shape: Any) -> None:
        slots = tf.TensorShape(input_shape)[-1]
        random = copy_initializer(self.kernel_initializer)

        def initializer(shape, dtype=None, **kwargs):
            # g / t sums to one, so that rows of W_g that are all alike are P_t's logits.
            stay = _STAY * self.normalize_usage * tf.eye(slots, dtype=dtype)
            return random(shape, dtype) + tf.reshape(stay, [1, -1])

        shape, penalty = [slots, slots * slots], {"regularizer": self.kernel_regularizer}
        self.kernel = self.add_float_weight("kernel", shape, initializer, **penalty)
        super().build(input_shape)

    def call(self, weights: tf.Tensor, usage: tf.Tensor) -> tf.Tensor:
        """The re-balanced write weights of one event, Eqs. (5), (6).

        Args:
          weights: w^w_t, [users, slots].
          usage: g_{t-1}, the sum of earlier write weights, [users, slots].

        Returns:
          [users, slots] in the weights' type; they sum to one where `weights` do.
        """
        kernel = tf.convert_to_tensor(self.kernel)
        usage = tf.cast(usage, kernel.dtype)
        transfer_matrix = ntm.transfer(usage, kernel, self.normalize_usage)
        balanced_weights = ntm.rebalance(tf.cast(weights, kernel.dtype), transfer_matrix)
        return tf.cast(balanced_weights, weights.dtype)

    def loss(self, usage: tf.Tensor) -> tf.Tensor:
        """L_reg of every user, Eqs. (7), (8): g_T [users, slots] -> [users]."""
        return self.weight * ntm.utilization_variance(usage)


class MemoryInduction(KernelLayer):
    """Memory induction unit, Eq. (9): the GRU of the channels.

    The slots hold what was written; a channel beside each of them follows how its interest evolves.
    An event updates the channels of the k slots that it read most, by one GRU for all channels.

    Args:
      units: width of a channel; the paper has 32.
      k: channels that an event updates, which the paper does not give; the released code has 1.
      recurrent_initializer: of the GRU's recurrent kernel.
      kernel_initializer, kernel_regularizer: of the GRU's kernel.

    Raises:
      ValueError: k is below one.

    Example:

      >>> layer = MemoryInduction(units=4, k=2)
      >>> read_weights = tf.nn.softmax(tf.random.normal([2, 3]))
      >>> memory, event = tf.random.normal([2, 3, 5]), tf.random.normal([2, 6])
      >>> layer(tf.zeros([2, 3, 4]), memory, event, read_weights).shape
      TensorShape([2, 3, 4])
    """

    def __init__(
        self,
        units: int = 32,
        k: int = 1,
        recurrent_initializer: Any = "orthogonal",
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        if k < 1:
            raise ValueError(
                f"k, the number of channels that an event updates, is at least 1; got {k}."
            )
        self.units = units
        self.k = k
        self.recurrent_initializer = tf.keras.initializers.get(recurrent_initializer)
        self.gru: Any = None

    def build_for(self, event_dim: int, memory_dim: int) -> None:
        """Creates the weights for events and slots of given widths, once."""
        if self.gru is None:
            dim = event_dim + memory_dim
            self.gru = add_gru(
                self, dim, self.units, recurrent_initializer=self.recurrent_initializer
            )

    def call(
        self, channels: tf.Tensor, memory: tf.Tensor, event: tf.Tensor, read_weights: tf.Tensor
    ) -> tf.Tensor:
        """S_t after one event.

        Args:
          channels: S_{t-1}, [users, slots, units].
          memory: M_t, [users, slots, dim].
          event: e_t, [users, event dim].
          read_weights: w^r_t, [users, slots].

        Returns:
          [users, slots, units]; all but k channels are as before, bit for bit.
        """
        self.build_for(event.shape[-1], memory.shape[-1])
        weights = self.step_weights()
        dtype = weights.kernel.dtype
        after = ntm.induce(
            tf.cast(channels, dtype),
            tf.cast(memory, dtype),
            tf.cast(event, dtype),
            ntm.top_channels(tf.cast(read_weights, dtype), self.k),
            weights,
        )
        return tf.cast(after, channels.dtype)

    def step_weights(self) -> ntm.GRUWeights:
        """The weights as tensors."""
        return ntm.GRUWeights(*map(tf.convert_to_tensor, self.gru))


class TuringMemory(RecurrentMemory):
    """A Neural Turing Machine of few slots, with balanced writing and channels where wanted.

    State: as of `NTMStep`; `usage` sums to the number of events read.

    Args:
      slots: m.
      dim: width of a slot.
      units: width of the controller; None for that of a slot.
      utilization: balances the writing, Eqs. (5)-(8), or None.
      induction: follows every slot by a channel, Eq. (9), or None.
      memory_initializer: of the slots before any event; None for N(0, 0.5).
      sharpness: beta, the factor of the cosines of Eq. (1); the paper has none. None for a learned one
        of each head, as in the released code.
      kernel_initializer, kernel_regularizer: of the kernels of controller and instructions.

    Raises:
      ValueError: an event updates more channels than there are.

    Example:

      >>> layer = TuringMemory(slots=3, dim=4, induction=MemoryInduction(5))
      >>> state, _ = layer(tf.random.normal([2, 7, 6]))
      >>> state["memory"].shape, state["channels"].shape
      (TensorShape([2, 3, 4]), TensorShape([2, 3, 5]))
    """

    def __init__(
        self,
        slots: int,
        dim: int,
        units: int | None = None,
        utilization: UtilizationRegularization | None = None,
        induction: MemoryInduction | None = None,
        memory_initializer: Any = None,
        sharpness: float | None = 1.0,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        utilization, induction = as_layer(utilization), as_layer(induction)
        if induction is not None and induction.k > slots:
            raise ValueError(
                f"an event updates at most as many channels as there are slots, {slots}; got "
                f"k={induction.k}."
            )
        self.slots = slots
        self.dim = dim
        self.units = units
        self.utilization = utilization
        self.induction = induction
        default = tf.keras.initializers.RandomNormal(0, 0.5)
        self.memory_initializer = tf.keras.initializers.get(memory_initializer or default)
        self.sharpness = sharpness
        self.step = ntm.NTMStep(
            0 if induction is None else induction.k,
            sharpness,
            getattr(utilization, "normalize_usage", False),
            getattr(utilization, "stop_gradient", False),
        )

    def build(self, input_shape: Any) -> None:
        event_dim, units = tf.TensorShape(input_shape)[-1], self.units or self.dim
        self.controller = add_gru(self, event_dim + self.dim, units, "controller/")
        width = 4 * self.dim + (2 if self.sharpness is None else 0)
        self.instructions = add_linear(self, units, width, "instructions/")
        self.first_memory = self.add_float_weight(
            "first_memory", [self.slots, self.dim], self.memory_initializer
        )
        if self.utilization is not None and not self.utilization.built:
            self.utilization.build([None, self.slots])
        if self.induction is not None:
            self.induction.build_for(event_dim, self.dim)
        super().build(input_shape)

    def initial_state(self, users: tf.Tensor | int) -> State:
        """The learned memory, and zeros."""
        dtype = self.first_memory.dtype
        state = {
            ntm.MEMORY: tf.convert_to_tensor(self.first_memory),
            ntm.CONTROLLER: tf.zeros([self.units or self.dim], dtype),
            ntm.READ: tf.zeros([self.dim], dtype),
            ntm.USAGE: tf.zeros([self.slots], dtype),
        }
        if self.induction is not None:
            state[ntm.CHANNELS] = tf.zeros([self.slots, self.induction.units], dtype)
        return {name: repeat_for_users(value, users) for name, value in state.items()}

    @property
    def trace_shapes(self) -> dict[str, list[int]]:
        return {ntm.READ_WEIGHTS: [self.slots], ntm.WRITE_WEIGHTS: [self.slots]}

    def step_weights(self) -> ntm.NTMWeights:
        """The weights of the step, those of utilization and induction among them."""
        balancing, induction = self.utilization, self.induction
        return ntm.NTMWeights(
            ntm.GRUWeights(*map(tf.convert_to_tensor, self.controller)),
            ntm.LinearWeights(*map(tf.convert_to_tensor, self.instructions)),
            None if balancing is None else tf.convert_to_tensor(balancing.kernel),
            None if induction is None else induction.step_weights(),
        )


class MultiChannelMemory(_MemoryEncoder):
    """A memory of a few slots and, with an induction unit, their channels, read by a candidate.

    State: as of `TuringMemory`; its size does not depend on the history.

    Args:
      memory: reads the events.
      attention: of a candidate over the channels, a layer called like `TargetAttention`; None for
        `ProjectedAttention`. Without an induction unit there is none.
      auxiliary_loss: supervision of what every event reads by the event that comes next, or None.
        The paper leaves it out of its tables.

    Example:

      >>> encoder = MultiChannelMemory(TuringMemory(3, 4, induction=MemoryInduction(5)))
      >>> events, mask = tf.random.normal([2, 7, 6]), tf.ones([2, 7], tf.bool)
      >>> encoder(tf.random.normal([2, 3, 6]), (events, mask))["interest"].shape
      TensorShape([2, 3, 9])
    """

    def __init__(
        self,
        memory: TuringMemory,
        attention: tf.keras.layers.Layer | None = None,
        auxiliary_loss: AuxiliaryLoss | None = None,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        memory, attention, auxiliary_loss = map(as_layer, (memory, attention, auxiliary_loss))
        policy = self.dtype_policy
        self.memory = memory
        self.query = tf.keras.layers.Dense(memory.dim, "tanh", name="query", dtype=policy)
        self.query_sharpness: Any = None
        if memory.sharpness is None:
            self.query_sharpness = tf.keras.layers.Dense(
                1, ntm.learned_sharpness, name="query_sharpness", dtype=policy
            )
        if memory.induction is None:
            attention = None
        elif attention is None:
            attention = ProjectedAttention(memory.induction.units, name="attention", dtype=policy)
        self.attention = attention
        self.auxiliary_loss = auxiliary_loss
        self.auxiliary_loss_names = (
            *([] if memory.utilization is None else ["utilization"]),
            *([] if auxiliary_loss is None else ["auxiliary"]),
        )

    def encode_with_losses(
        self, history: History, training: bool = False
    ) -> tuple[State, dict[str, tf.Tensor]]:
        """The state, and `utilization`, Eq. (8), and `auxiliary`, [users], where there are such losses."""
        events, mask, negatives = history.events, history.mask, history.negatives
        foresees = self.auxiliary_loss is not None and negatives is not None
        state, traces = self.memory(
            events, mask, traces=[ntm.READ] if foresees else [], training=training
        )
        losses = {}
        if self.memory.utilization is not None:
            losses["utilization"] = self.memory.utilization.loss(state[ntm.USAGE])
        if foresees:
            losses["auxiliary"] = self.auxiliary_loss(traces[ntm.READ], events, negatives, mask)
        elif self.auxiliary_loss is not None:
            self.auxiliary_loss.build_score(self.memory.dim, events)
        return state, losses

    def interest(self, state: State, target: Target, training: bool = False) -> State:
        """The candidate's reading of memory and channels.

        Returns:
          `interest` [users, candidates, dim], or [users, candidates, dim + channel units], exactly
          zero for a user without events; `target_weights`, the slots' weights [users, candidates,
          slots], and with channels `attention` of that shape.
        """
        embedding, memory = target.embedding, state[ntm.MEMORY]
        query = tf.cast(self.query(embedding), memory.dtype)
        sharpness = self.memory.sharpness
        if self.query_sharpness is not None:
            sharpness = tf.cast(self.query_sharpness(embedding), memory.dtype)
        weights = ntm.address(ntm.cosine(query, memory), sharpness)
        parts, intermediates = [ntm.read(weights, memory)], {"target_weights": weights}
        if self.attention is not None:
            channels = tf.cast(state[ntm.CHANNELS], embedding.dtype)
            layers = {"attention": (self.attention, channels)}
            outputs = read_each(layers, None, target, training)
            parts.append(outputs.pop(INTEREST))
            intermediates |= outputs
        interest = tf.concat([tf.cast(part, embedding.dtype) for part in parts], -1)
        # Slots that nothing was written to still hold the learned initial memory.
        has_events = tf.reduce_sum(state[ntm.USAGE], -1)[:, tf.newaxis, tf.newaxis] > 0
        interest = tf.where(has_events, interest, tf.zeros([], interest.dtype))
        return {"interest": interest, **intermediates}
