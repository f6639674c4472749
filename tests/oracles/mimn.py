"""Equations (1)-(9) of MIMN in numpy, one user and one event at a time."""

import numpy as np


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def softmax(x):
    shifted = np.exp(x - np.max(x, -1, keepdims=True))
    return shifted / shifted.sum(-1, keepdims=True)


def cosine(key, slot):
    return key @ slot / (np.linalg.norm(key) * np.linalg.norm(slot) + 1e-8)  # Eq. (2)


def address(key, memory, sharpness=1.0):
    return softmax(sharpness * np.array([cosine(key, slot) for slot in memory]))  # Eq. (1)


def read(weights, memory):
    return sum(weight * slot for weight, slot in zip(weights, memory, strict=True))  # Eq. (3)


def write(memory, weights, erase, addition):
    return (1 - np.outer(weights, erase)) * memory + np.outer(weights, addition)  # Eq. (4)


def rebalance(weights, usage, kernel, events=1):
    """`events` is what Eq. (5) divides g by, where it does."""
    slots, usage = len(weights), usage / max(events, 1)
    transfer = softmax((usage @ kernel).reshape(slots, slots))  # Eq. (5)
    return weights @ transfer  # Eq. (6)


def utilization_loss(usage):
    return sum((usage[i] - usage.mean()) ** 2 for i in range(len(usage)))  # Eqs. (7), (8)


def gru(inputs, state, kernel, recurrent_kernel, bias):
    """DIEN's GRU: the update gate writes, the reset gate acts after the product."""
    input_u, input_r, input_c = np.split(inputs @ kernel + bias, 3)
    state_u, state_r, state_c = np.split(state @ recurrent_kernel, 3)
    update, reset = sigmoid(input_u + state_u), sigmoid(input_r + state_r)
    candidate = np.tanh(input_c + reset * state_c)
    return (1 - update) * state + update * candidate


def step(state, event, weights, top_k, sharpness=1.0, events=1):
    """One event of a user; `state`, `weights` and `sharpness` as of `NTMStep`, in numpy.

    `events` divide g in Eq. (5): the number of events before this one, or 1 for g as it is.
    """
    inputs = np.concatenate([event, state["read"]])
    controller = gru(inputs, state["controller"], *weights.controller)
    instructions = controller @ weights.instructions.kernel + weights.instructions.bias
    betas = [sharpness] * 2
    if sharpness is None:
        instructions, outputs = instructions[:-2], instructions[-2:]
        betas = 2 * (np.log1p(np.exp(outputs)) + 1)
    write_key, read_key, erase, addition = np.split(instructions, 4)
    write_weights = address(np.tanh(write_key), state["memory"], betas[0])
    if weights.transfer is not None:
        write_weights = rebalance(write_weights, state["usage"], weights.transfer, events)
    memory = write(state["memory"], write_weights, sigmoid(erase), np.tanh(addition))
    read_weights = address(np.tanh(read_key), memory, betas[1])
    after = {
        "memory": memory,
        "controller": controller,
        "read": read(read_weights, memory),
        "usage": state["usage"] + write_weights,
    }
    if top_k:
        channels = state["channels"].copy()
        for i in np.argsort(-read_weights)[:top_k]:
            inputs = np.concatenate([event, memory[i]])
            channels[i] = gru(inputs, channels[i], *weights.induction)  # Eq. (9)
        after["channels"] = channels
    return after


def fold(state, events, mask, weights, top_k, sharpness=1.0, normalize=False):
    """All events of a user, one after another."""
    before = 0
    for event, is_real in zip(events, mask, strict=True):
        if is_real:
            divisor = before if normalize else 1
            state = step(state, event, weights, top_k, sharpness, divisor)
            before += 1
    return state
