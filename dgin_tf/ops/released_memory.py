"""The cells of MIMN's released code (UIC-Paper/MIMN): its own MIMN and its feature-level RUM.

Where the paper prints less or otherwise, the authors' MIMN cell
- addresses by the mean of two cosines, with the slots and with a learned key of each slot, and
  sharpens the softmax by beta = (softplus + 1) * sharp;
- reads M_{t-1}, and gives [controller, reads] through one more linear layer as output;
- balances writing by the shift and the power of a Neural Turing Machine, which see the use of the
  slots as g / 400; the use itself adds what a second such step makes of the weights;
- adds up what was ever written, never erased, in `written`;
- steps its channels' GRU on M_{t-1}, for the one channel that was read most.
Its RUM is the same cell without slot keys, shift, use and output layer.
"""

import dataclasses

import tensorflow as tf

from dgin_tf.ops import memory as ops
from dgin_tf.ops.turing import (
    CHANNELS,
    CONTROLLER,
    MEMORY,
    READ,
    READ_WEIGHTS,
    USAGE,
    WRITE_WEIGHTS,
    gru,
    hold_padding,
    induction,
)

WRITTEN = "written"
CHANNEL_OUTPUT = "channel_output"
OUTPUT = "output"
USAGE_SCALE = 400.0
CLEARED = (MEMORY, CONTROLLER, WRITTEN, CHANNELS)
"""What a padded step sets back to its initial value, where the release clears states at all."""


@dataclasses.dataclass(frozen=True)
class ReleasedStep:
    """The step of a fold, see `dgin_tf.ops.folding`.

    State: `memory` [users, slots, dim], `controller` [users, units], `read` of all heads side by
    side [users, heads * dim], `usage` [users, slots], `written` [users, slots, dim]; with induction
    `channels` and `channel_output` [users, slots, channel units].
    Values: the event [users, event dim] and whether it is real, one or zero [users].
    Weights: as of `TuringStep`, with `output/*`, `keys` [slots, dim], and `initial/<name>` of what
    is cleared.

    Attributes:
      dim: width of a slot.
      read_heads, write_heads: number of heads.
      keyed: whether the slots have keys, a shift and an output layer: MIMN; RUM has none.
      balances: whether the second head's weights are shifted and sharpened.
      induces: whether there are channels.
      clears: whether a padded step sets the state back (see `CLEARED`); it else goes on like any.
      sharp, clip, reach: the cell's sharp_value, clip_value and shift_range.
    """

    dim: int
    read_heads: int = 1
    write_heads: int = 1
    keyed: bool = True
    balances: bool = False
    induces: bool = False
    clears: bool = False
    sharp: float = 2.0
    clip: float = 20.0
    reach: int = 1

    @property
    def head_width(self) -> int:
        """Numbers that tell a head where to go: key, beta, and in MIMN one unused, shift, gamma."""
        return self.dim + 1 + (1 + 2 * self.reach + 1 + 1 if self.keyed else 0)

    @property
    def instructions_width(self) -> int:
        """Numbers that the controller says in all."""
        heads = self.read_heads + self.write_heads
        return heads * self.head_width + self.write_heads * 2 * self.dim

    def __call__(
        self,
        state: dict[str, tf.Tensor],
        values: tuple[tf.Tensor, ...],
        weights: dict[str, tf.Tensor],
    ) -> dict[str, tf.Tensor]:
        """The state after the event, and its `output`, `read_weights` and `write_weights`."""
        event, real = values
        after = self.look(state, event, weights)
        instructions, all_weights = after.pop("instructions"), after.pop("all_weights")
        after = {**after, **self._write(state, instructions, all_weights)}
        if self.induces:
            after[CHANNELS] = induction(
                state[CHANNELS],
                tf.stop_gradient(state[MEMORY]),
                event,
                all_weights[:, 0],
                weights,
                k=1,
                reset_after=False,
            )
            chosen = ops.top_channels(all_weights[:, 0], 1)[:, 0, :, tf.newaxis]
            after[CHANNEL_OUTPUT] = after[CHANNELS] * chosen
        if self.clears:
            for name in set(CLEARED) & set(state):
                after[name] = hold_padding(after[name], weights[f"initial/{name}"], real)
        return after

    def look(
        self, state: dict[str, tf.Tensor], event: tf.Tensor, weights: dict[str, tf.Tensor]
    ) -> dict[str, tf.Tensor]:
        """Controller, addresses and reads of an event, without writing.

        Returns:
          `controller`, `read`, `read_weights` [users, read heads, slots] and `output`; and what
          writing needs: `instructions`, and `all_weights` [users, heads, slots], read heads first.
        """
        inputs = tf.concat([event, state[READ]], -1)
        controller = gru(inputs, state[CONTROLLER], weights, "controller", reset_after=False)
        said = controller
        if self.balances:
            said = tf.concat([said, tf.stop_gradient(state[USAGE] / USAGE_SCALE)], -1)
        instructions = self._linear(said, weights, "instructions")
        heads = self.read_heads + self.write_heads
        blocks = tf.reshape(
            instructions[:, : heads * self.head_width], [-1, heads, self.head_width]
        )
        all_weights = self._address(blocks, state[MEMORY], weights)
        read = ops.read(all_weights[:, : self.read_heads], state[MEMORY])
        read = tf.reshape(read, [-1, self.read_heads * self.dim])
        output = controller
        if self.keyed:
            output = self._linear(tf.concat([controller, read], -1), weights, "output")
        return {
            CONTROLLER: controller,
            READ: read,
            READ_WEIGHTS: all_weights[:, : self.read_heads],
            OUTPUT: output,
            "instructions": instructions,
            "all_weights": all_weights,
        }

    def _address(self, blocks, memory, weights):
        """Weights of every head, before any shift."""
        keys = tf.tanh(blocks[..., : self.dim])
        sharpness = tf.nn.softplus(blocks[..., self.dim : self.dim + 1]) + 1.0
        similarity = ops.cosine(keys, memory)
        if self.keyed:
            slot_keys = tf.broadcast_to(tf.tanh(weights["keys"]), tf.shape(memory))
            similarity = 0.5 * (similarity + ops.cosine(keys, slot_keys))
            sharpness *= self.sharp
        return ops.address(similarity, sharpness)

    def _write(self, state, instructions, all_weights):
        """Memory, use and what was ever written, after all write heads, one after another."""
        heads = self.read_heads + self.write_heads
        blocks = tf.reshape(
            instructions[:, : heads * self.head_width], [-1, heads, self.head_width]
        )
        contents = tf.reshape(
            instructions[:, heads * self.head_width :], [-1, self.write_heads, 2, self.dim]
        )
        memory, usage, written = state[MEMORY], state[USAGE], state[WRITTEN]
        write_weights = []
        for index in range(self.write_heads):
            head = self.read_heads + index
            head_weights = used = all_weights[:, head]
            if self.balances and head == 1:
                head_weights = self._shifted(head_weights, blocks[:, head])
                used = self._shifted(tf.stop_gradient(head_weights), blocks[:, head])
            erase, addition = tf.sigmoid(contents[:, index, 0]), tf.tanh(contents[:, index, 1])
            memory = ops.write(memory, head_weights, erase, addition)
            constant = tf.stop_gradient(head_weights)
            written += constant[:, :, tf.newaxis] * addition[:, tf.newaxis]
            usage += used
            write_weights.append(head_weights)
        return {
            MEMORY: memory,
            USAGE: usage,
            WRITTEN: written,
            WRITE_WEIGHTS: tf.stack(write_weights, 1),
        }

    def _shifted(self, head_weights, block):
        shift = tf.nn.softmax(block[:, self.dim + 2 : -1])
        power = (tf.nn.softplus(block[:, -1:]) + 1.0) * 2.0 * self.sharp
        return ops.shift_and_sharpen(head_weights, shift, power)

    def _linear(self, inputs, weights, name):
        result = inputs @ weights[f"{name}/kernel"] + weights[f"{name}/bias"]
        return tf.clip_by_value(result, -self.clip, self.clip)
