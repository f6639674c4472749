"""The memories of MIMN's released code (UIC-Paper/MIMN): its own MIMN and its feature-level RUM.

Where the paper prints less or otherwise, the authors' MIMN cell
- addresses by the mean of two cosines, with the slots and with a learned key of each slot, and
  sharpens the softmax by beta = (softplus + 1) * sharp;
- reads M_{t-1}, and gives [controller, reads] through one more linear layer as output;
- balances writing by the shift and the power of a Neural Turing Machine, which see the use of the
  slots as g / 400; the use itself adds what a second such step makes of the weights;
- sums all additions in `written`, where nothing is ever erased;
- steps its channels' GRU on M_{t-1}, for the one channel that was read most.
Its RUM is the same cell without slot keys, shift, use and output layer.

The release pads on the left and reads padding like events of zeros, or sets the state back after
each; here histories are moved to the right end first, so that both paddings give what theirs gives.
Use and reads take part in padded steps, so that no stream of real events ends in the state of a
padded batch: there is no `update`.
"""

import dataclasses
from typing import Any, NamedTuple

import tensorflow as tf

from dgin_tf.layers.auxiliary_loss import AuxiliaryLoss
from dgin_tf.layers.configured import as_layer
from dgin_tf.layers.events import History, State, Target
from dgin_tf.layers.interest_encoder import InterestEncoder
from dgin_tf.layers.memory.recurrent_memory import (
    RecurrentMemory,
    add_gru,
    add_linear,
    repeat_for_users,
)
from dgin_tf.layers.target_attention import read_each, sigmoid_attention
from dgin_tf.ops import ntm
from dgin_tf.ops.event_order import padding_first
from dgin_tf.released.recurrent import gate_biases

WRITTEN, CHANNEL_OUTPUT, OUTPUT = "written", "channel_output", "output"
CLEARED = (ntm.MEMORY, ntm.CONTROLLER, WRITTEN, ntm.CHANNELS)
"""State that a padded step sets back to its initial value, where the release clears states at all."""


class ReleasedWeights(NamedTuple):
    """Weights of `ReleasedStep`; those that a cell does not have are None.

    Attributes:
      controller, instructions: as of `NTMWeights`.
      output: of the output layer.
      keys: of the slots, before a tanh, [slots, dim].
      induction: of the channels' GRU.
      initial: what padded steps set the state back to, name -> [1, ...].
    """

    controller: ntm.GRUWeights
    instructions: ntm.LinearWeights
    output: ntm.LinearWeights | None
    keys: tf.Tensor | None
    induction: ntm.GRUWeights | None
    initial: ntm.Tensors | None


class HeadOutputs(NamedTuple):
    """The controller's state and the heads' addresses for one event, before anything is written.

    Attributes:
      controller: [users, units].
      instructions: the linear layer's output, [users, instructions width].
      weights: of the slots, read heads first, [users, heads, slots].
      readings: of all read heads side by side, [users, read heads * dim].
      output: [users, output units].
    """

    controller: tf.Tensor
    instructions: tf.Tensor
    weights: tf.Tensor
    readings: tf.Tensor
    output: tf.Tensor


@dataclasses.dataclass(frozen=True)
class ReleasedStep:
    """One event read by the released cell, see `dgin_tf.ops.ntm.scan`.

    State: `memory` [users, slots, dim], `controller` [users, units], `read` of all heads side by
    side [users, heads * dim], `usage` [users, slots], `written` [users, slots, dim]; with induction
    `channels` and `channel_output` [users, slots, channel units].
    Values: the event [users, event dim], and one where it is real or zero [users].

    Attributes:
      dim: width of a slot.
      read_heads, write_heads: number of heads.
      has_slot_keys: whether the slots have keys, a shift and an output layer: MIMN; RUM has none.
      balances: whether the second head's weights are shifted and sharpened, be it a read head; the use
        of the slots is then that of this head alone.
      induces: whether there are channels.
      clears: whether a padded step sets the state back (see `CLEARED`); else it is like any other.
      sharp, clip, reach, usage_scale: the cell's sharp_value, clip_value, shift_range and max_q.
    """

    dim: int
    read_heads: int = 1
    write_heads: int = 1
    has_slot_keys: bool = True
    balances: bool = False
    induces: bool = False
    clears: bool = False
    sharp: float = 2.0
    clip: float = 20.0
    reach: int = 1
    usage_scale: float = 400.0

    @property
    def head_width(self) -> int:
        """Numbers that direct a head: key, beta, and in MIMN one unused, shift, gamma."""
        return self.dim + 1 + (1 + 2 * self.reach + 1 + 1 if self.has_slot_keys else 0)

    @property
    def instructions_width(self) -> int:
        """Numbers that the controller gives in all."""
        heads = self.read_heads + self.write_heads
        return heads * self.head_width + self.write_heads * 2 * self.dim

    def __call__(
        self, state: ntm.Tensors, values: tuple[tf.Tensor, ...], weights: ReleasedWeights
    ) -> ntm.Tensors:
        """The state after the event, and its `output`, `read_weights` and `write_weights`."""
        event, real = values
        heads = self.look(state, event, weights)
        after = {
            ntm.CONTROLLER: heads.controller,
            ntm.READ: heads.readings,
            ntm.READ_WEIGHTS: heads.weights[:, : self.read_heads],
            OUTPUT: heads.output,
            **self._write(state, heads.instructions, heads.weights),
        }
        if weights.induction is not None:
            selection = ntm.top_channels(heads.weights[:, 0], 1)
            channels, memory = state[ntm.CHANNELS], tf.stop_gradient(state[ntm.MEMORY])
            after[ntm.CHANNELS] = ntm.induce(
                channels, memory, event, selection, weights.induction, reset_after=False
            )
            after[CHANNEL_OUTPUT] = after[ntm.CHANNELS] * selection[:, 0, :, tf.newaxis]
        if weights.initial is not None:
            for name in set(CLEARED) & set(state):
                after[name] = ntm.hold_padding(after[name], weights.initial[name], real)
        return after

    def look(self, state: ntm.Tensors, event: tf.Tensor, weights: ReleasedWeights) -> HeadOutputs:
        """Controller, addresses and reads of an event, without writing."""
        inputs = tf.concat([event, state[ntm.READ]], -1)
        controller = ntm.gru(inputs, state[ntm.CONTROLLER], weights.controller, reset_after=False)
        inputs = controller
        if self.balances:
            usage = tf.stop_gradient(state[ntm.USAGE] / self.usage_scale)
            inputs = tf.concat([inputs, usage], -1)
        instructions = self._linear(inputs, weights.instructions)
        blocks = self._blocks(instructions)
        head_weights = self._address(blocks, state[ntm.MEMORY], weights.keys)
        if self.balances:
            first, second, others = tf.split(head_weights, [1, 1, blocks.shape[1] - 2], 1)
            second = self._shift(second[:, 0], blocks[:, 1])[:, tf.newaxis]
            head_weights = tf.concat([first, second, others], 1)
        readings = ntm.read(head_weights[:, : self.read_heads], state[ntm.MEMORY])
        readings = tf.reshape(readings, [-1, self.read_heads * self.dim])
        output = controller
        if weights.output is not None:
            output = self._linear(tf.concat([controller, readings], -1), weights.output)
        return HeadOutputs(controller, instructions, head_weights, readings, output)

    def _blocks(self, instructions):
        """The numbers that direct each head, [users, heads, head width]."""
        heads = self.read_heads + self.write_heads
        width = heads * self.head_width
        return tf.reshape(instructions[:, :width], [-1, heads, self.head_width])

    def _address(self, blocks, memory, slot_keys):
        """Weights of every head, before the shift."""
        keys = tf.tanh(blocks[..., : self.dim])
        sharpness = tf.nn.softplus(blocks[..., self.dim : self.dim + 1]) + 1.0
        similarity = ntm.cosine(keys, memory)
        if slot_keys is not None:
            slot_keys = tf.broadcast_to(tf.tanh(slot_keys), tf.shape(memory))
            similarity = 0.5 * (similarity + ntm.cosine(keys, slot_keys))
            sharpness *= self.sharp
        return ntm.address(similarity, sharpness)

    def _write(self, state, instructions, all_weights):
        """Memory, use and sum of all additions, after all write heads, one after another."""
        blocks = self._blocks(instructions)
        contents = instructions[:, blocks.shape[1] * self.head_width :]
        contents = tf.reshape(contents, [-1, self.write_heads, 2, self.dim])
        memory, additions = state[ntm.MEMORY], state[WRITTEN]
        write_weights = all_weights[:, self.read_heads :]
        usage_weights = tf.reduce_sum(write_weights, 1)
        if self.balances:
            usage_weights = self._shift(tf.stop_gradient(all_weights[:, 1]), blocks[:, 1])
        for index in range(self.write_heads):
            head_weights = write_weights[:, index]
            erase, addition = tf.sigmoid(contents[:, index, 0]), tf.tanh(contents[:, index, 1])
            memory = ntm.write(memory, head_weights, erase, addition)
            # The release trains neither the sum of additions nor the use through the weights.
            constant = tf.stop_gradient(head_weights)
            additions += constant[:, :, tf.newaxis] * addition[:, tf.newaxis]
        return {
            ntm.MEMORY: memory,
            ntm.USAGE: state[ntm.USAGE] + usage_weights,
            WRITTEN: additions,
            ntm.WRITE_WEIGHTS: write_weights,
        }

    def _shift(self, head_weights, block):
        shift = tf.nn.softmax(block[:, self.dim + 2 : -1])
        power = (tf.nn.softplus(block[:, -1:]) + 1.0) * 2.0 * self.sharp
        return shift_and_sharpen(head_weights, shift, power)

    def _linear(self, inputs, weights):
        return tf.clip_by_value(ntm.linear(inputs, weights), -self.clip, self.clip)


def shift_and_sharpen(weights: tf.Tensor, shift: tf.Tensor, power: tf.Tensor) -> tf.Tensor:
    """A Neural Turing Machine's shift, the release's balancing in the place of Eqs. (5), (6).

    Args:
      weights: w, [users, slots].
      shift: distribution over offsets 0, 1, ..., s, -s, ..., -1, [users, 2 s + 1].
      power: gamma >= 1, [users, 1].

    Returns:
      (sum_o shift(o) w(i - o)) ** gamma, normalized, [users, slots].
    """
    reach = (shift.shape[-1] - 1) // 2
    offsets = [*range(reach + 1), *range(-reach, 0)]
    neighbors = tf.stack([tf.roll(weights, offset, axis=-1) for offset in offsets], -1)
    powers = tf.reduce_sum(neighbors * shift[:, tf.newaxis], -1) ** power
    return powers / tf.reduce_sum(powers, -1, keepdims=True)


class ReleasedTuringMemory(RecurrentMemory):
    """The released cell and its loop over time.

    State: as of `ReleasedStep`.

    Args:
      step: the settings of the cell.
      slots: m.
      units: width of the controller.
      output_units: width of a step's output; None for the controller's.
      kernel_initializer, kernel_regularizer: of the kernels of GRUs and linear layers.

    Example:

      >>> layer = ReleasedTuringMemory(ReleasedStep(dim=4), slots=3, units=5)
      >>> state, _ = layer(tf.random.normal([2, 7, 6]))
      >>> state["memory"].shape, state["controller"].shape
      (TensorShape([2, 3, 4]), TensorShape([2, 5]))
    """

    step: ReleasedStep

    def __init__(
        self,
        step: ReleasedStep,
        slots: int = 4,
        units: int = 32,
        output_units: int | None = None,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.step = ReleasedStep(**step) if isinstance(step, dict) else step
        self.slots = slots
        self.units = units
        self.output_units = output_units

    def build(self, input_shape: Any) -> None:
        step, dim = self.step, self.step.dim
        event_dim = tf.TensorShape(input_shape)[-1]
        inputs = self.units + (self.slots if step.balances else 0)
        reads = step.read_heads * dim
        gru = ("glorot_uniform", _gate_biases)
        self.controller = add_gru(self, event_dim + reads, self.units, "controller/", *gru)
        self.instructions = add_linear(self, inputs, step.instructions_width, "instructions/")
        self.output_layer = self.keys = self.induction = None
        if step.has_slot_keys:
            units = self.output_units or self.units
            self.output_layer = add_linear(self, self.units + reads, units, "output/")
            initializer = tf.keras.initializers.RandomNormal(0, 0.5)
            self.keys = self.add_float_weight("keys", [self.slots, dim], initializer)
        if step.induces:
            self.induction = add_gru(self, event_dim + dim, dim, "induction/", *gru)
        # Before a tanh each; slots differ so little that what is written must tell them apart.
        near_zero = tf.keras.initializers.RandomNormal(0, 1e-5)
        self.first_memory = self.add_float_weight(
            "first_memory", [self.slots, dim], near_zero, trainable=False
        )
        self.first_read = self.add_float_weight(
            "first_read", [step.read_heads, dim], "glorot_uniform"
        )
        super().build(input_shape)

    def initial_state(self, users: tf.Tensor | int) -> State:
        """The initial memory and reads, all else zero."""
        memory, read = tf.tanh(self.first_memory), tf.tanh(self.first_read)
        zeros = {ntm.CONTROLLER: [self.units], ntm.USAGE: [self.slots], WRITTEN: memory.shape}
        if self.step.induces:
            zeros |= {ntm.CHANNELS: memory.shape, CHANNEL_OUTPUT: memory.shape}
        state = {name: tf.zeros(shape, memory.dtype) for name, shape in zeros.items()}
        state |= {ntm.MEMORY: memory, ntm.READ: tf.reshape(read, [-1])}
        return {name: repeat_for_users(value, users) for name, value in state.items()}

    @property
    def trace_shapes(self) -> dict[str, list[int]]:
        return {
            OUTPUT: [(self.output_units or self.units) if self.step.has_slot_keys else self.units],
            ntm.READ_WEIGHTS: [self.step.read_heads, self.slots],
            ntm.WRITE_WEIGHTS: [self.step.write_heads, self.slots],
        }

    def step_weights(self) -> ReleasedWeights:
        """The weights of the step, and what padded steps set the state back to."""
        initial = None
        if self.step.clears:
            state = self.initial_state(1)
            initial = {name: state[name] for name in CLEARED if name in state}
        return ReleasedWeights(
            _as_tensors(ntm.GRUWeights, self.controller),
            _as_tensors(ntm.LinearWeights, self.instructions),
            _as_tensors(ntm.LinearWeights, self.output_layer),
            None if self.keys is None else tf.convert_to_tensor(self.keys),
            _as_tensors(ntm.GRUWeights, self.induction),
            initial,
        )

    def read_out(self, state: State, target: tf.Tensor) -> tf.Tensor:
        """Output of the cell for each candidate, were it the next event.

        Args:
          state: as `call` gives it.
          target: [users, candidates, event dim].

        Returns:
          [users, candidates, output units].
        """
        users, candidates = tf.shape(target)[0], tf.shape(target)[1]
        names = (ntm.MEMORY, ntm.CONTROLLER, ntm.READ, ntm.USAGE)
        rows = {name: tf.repeat(state[name], candidates, axis=0) for name in names}
        events = tf.cast(tf.reshape(target, [-1, target.shape[-1]]), self._state_dtype)
        output = self.step.look(rows, events, self.step_weights()).output
        return tf.reshape(output, [users, candidates, output.shape[-1]])


class ReleasedMemoryInterest(InterestEncoder):
    """The readings of the released heads: MIMN's and, for a cell without slot keys, RUM's.

    MIMN: [read-out with the target, attention over the channels' outputs of the last step, mean over
    slots of all additions times the target]. RUM: [last controller state, attention over M].

    State: as of `ReleasedTuringMemory`.

    Args:
      memory: the cell.
      utilization_weight: lambda of the regularization, where the cell balances its writing.
      auxiliary_loss: supervision of the steps' outputs by the next event, or None.

    Example:

      >>> encoder = ReleasedMemoryInterest(ReleasedTuringMemory(ReleasedStep(dim=6), 3, 5))
      >>> events, mask = tf.random.normal([2, 7, 6]), tf.ones([2, 7], tf.bool)
      >>> encoder(tf.random.normal([2, 4, 6]), (events, mask))["interest"].shape
      TensorShape([2, 4, 11])
    """

    def __init__(
        self,
        memory: ReleasedTuringMemory,
        utilization_weight: float = 1e-3,
        auxiliary_loss: AuxiliaryLoss | None = None,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        memory, auxiliary_loss = as_layer(memory), as_layer(auxiliary_loss)
        self.memory = memory
        self.utilization_weight = utilization_weight
        self.auxiliary_loss = auxiliary_loss
        self.attention: Any = None
        if memory.step.induces or not memory.step.has_slot_keys:
            self.attention = sigmoid_attention((80, 40), "attention", self.dtype_policy)
        self.auxiliary_loss_names = (
            *(["utilization"] if memory.step.balances else []),
            *([] if auxiliary_loss is None else ["auxiliary"]),
        )

    def encode(self, history: History, training: bool = False) -> State:
        """Reads the history, padding first and like events of zeros."""
        events, mask = padding_first(history.events, history.mask)
        return self.memory(events, mask, training=training)[0]

    def encode_with_losses(
        self, history: History, training: bool = False
    ) -> tuple[State, dict[str, tf.Tensor]]:
        """The state, and `utilization` and `auxiliary` [users], weighted, where there are such losses."""
        foresees = self.auxiliary_loss is not None and history.negatives is not None
        events, mask = padding_first(history.events, history.mask)
        traces = [OUTPUT] if foresees else []
        state, histories = self.memory(events, mask, traces=traces, training=training)
        losses = {}
        if self.memory.step.balances:
            losses["utilization"] = self.utilization_loss(state[ntm.USAGE])
        if foresees:
            negatives, _ = padding_first(history.negatives, history.mask)
            # The state of the padding before the first event has to foresee it too.
            pairs = mask | tf.concat([mask[:, 1:], tf.zeros_like(mask[:, :1])], 1)
            losses["auxiliary"] = self.auxiliary_loss(histories[OUTPUT], events, negatives, pairs)
        elif self.auxiliary_loss is not None:
            self.auxiliary_loss.build_score(self.memory.trace_shapes[OUTPUT][0], events)
        return state, losses

    def utilization_loss(self, usage: tf.Tensor) -> tf.Tensor:
        """L_reg of every user, [users, slots] -> [users].

        The release takes the mean over users and slots, and divides by both once more.
        """
        count = tf.cast(usage.shape[-1] ** 2 * tf.shape(usage)[0], usage.dtype)
        return self.utilization_weight * ntm.utilization_variance(usage) / count

    def interest(self, state: State, target: Target, training: bool = False) -> State:
        """See the class; `interest` [users, candidates, dim], `attention` [users, candidates, slots]."""
        embedding = target.embedding
        intermediates: State = {}
        if self.memory.step.has_slot_keys:
            parts = [self.memory.read_out(state, embedding)]
            if self.memory.step.induces:
                intermediates = self._attend(state[CHANNEL_OUTPUT], target, training)
                parts.append(intermediates.pop("interest"))
            mean_addition = tf.reduce_mean(state[WRITTEN], 1)[:, tf.newaxis]
            parts.append(tf.cast(mean_addition, embedding.dtype) * embedding)
        else:
            last = tf.repeat(state[ntm.CONTROLLER][:, tf.newaxis], tf.shape(embedding)[1], axis=1)
            intermediates = self._attend(state[ntm.MEMORY], target, training)
            parts = [last, intermediates.pop("interest")]
        parts = [tf.cast(part, embedding.dtype) for part in parts]
        return {"interest": tf.concat(parts, -1), **intermediates}

    def _attend(self, values: tf.Tensor, target: Target, training: bool) -> State:
        """Attention of the candidates over slots or channels, and their readings."""
        values = tf.cast(values, target.embedding.dtype)
        return read_each({"attention": (self.attention, values)}, None, target, training)


def _gate_biases(shape: Any, dtype: Any = None, **kwargs: Any) -> tf.Tensor:
    """Initial biases of a GRU of TensorFlow 1, see `dgin_tf.released.recurrent`."""
    return gate_biases(shape[0] // 3, dtype=dtype)


def _as_tensors(kind: Any, weights: Any) -> Any:
    return None if weights is None else kind(*map(tf.convert_to_tensor, weights))
