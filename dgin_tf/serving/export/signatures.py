"""Signatures of an exported model, which is cut where serving cuts it.

    serving_default    histories and candidates -> probabilities, logits, mask
    predict_examples   serialized records -> the same, one row a record
    encode_user        histories -> state
    score_candidates   state and candidates -> the same as serving_default
    update_user        state and newer events -> state, where the model is incremental
    encode_groups      the newest events of each group and its statistics, `hist_total_*` -> the state of
                       groups, where the model has groups that are cached ahead of requests
    encode_retrieved   events under the candidates' keys -> the rest of the state, where it has

Inputs have the names of a batch (`hist_item_id`, `cand_category_id`, `user_id`, ...), and only those that
the model reads are inputs: DIN needs no timestamps. Candidates come with the context of their request
(`context_hour`). There are no masks: an item id of 0 is padding, at either end of a row. Scores come with a
`mask`, true for real candidates: padding has the probability 0 and the lowest finite logit, so that it is
never ranked above one. An id outside its vocabulary becomes the unknown id. State tensors have the names of
`flatten_state`; every floating-point output is float32, whatever the model computes in, so that a state
can be stored, or sent as JSON, without loss.
"""

import os
from collections.abc import Callable, Mapping
from typing import Any

import tensorflow as tf
from google.protobuf.message import DecodeError

from dgin_tf.group_spec import TOTAL
from dgin_tf.inputs.cutting import cut, parse_rows
from dgin_tf.integrity import first_line
from dgin_tf.layers.events import MASK
from dgin_tf.models.base import CTRModel
from dgin_tf.schema import (
    CANDIDATE,
    CANDIDATE_MASK,
    CONTEXT,
    HISTORY,
    HISTORY_MASK,
    ITEM,
    OF_ROWS,
    PADDING_ID,
    PREFIX,
    UNKNOWN_ID,
    USER,
    Schema,
    feature_name,
)
from dgin_tf.serving.export.state_names import flatten_state, unflatten_state

SERVING_DEFAULT = "serving_default"
PREDICT_EXAMPLES = "predict_examples"
ENCODE_USER = "encode_user"
SCORE_CANDIDATES = "score_candidates"
UPDATE_USER = "update_user"
ENCODE_GROUPS = "encode_groups"
ENCODE_RETRIEVED = "encode_retrieved"
EXAMPLES = "examples"
PROBABILITIES = "probabilities"
LOGITS = "logits"
SCORE_MASK = "mask"

GROUP_ENCODER = "group_module"
"""The encoder whose state is cached where a model's `serving_spec` has groups."""

_MASKS = {HISTORY: HISTORY_MASK, CANDIDATE: CANDIDATE_MASK}

Tensors = dict[str, tf.Tensor]
Specs = dict[str, tf.TensorSpec]
Signatures = dict[str, Any]  # name -> concrete function


def load_signatures(version: str | os.PathLike) -> Mapping[str, Any]:
    """Loads the functions of a saved model; raises ValueError where its files are damaged."""
    try:
        return tf.saved_model.load(os.fspath(version)).signatures
    except (tf.errors.OpError, DecodeError, OSError, IndexError, KeyError, ValueError) as error:
        raise ValueError(
            f"the saved model in {os.fspath(version)} is damaged ({first_line(error)}); export "
            "the model with python -m experiments.export."
        ) from error


def trace_signatures(model: CTRModel, max_history: int) -> Signatures:
    """Traces every signature of a model.

    Args:
      model: built, with the weights to serve.
      max_history: to how many newest events `predict_examples` cuts a record's history, as training
        did. The other signatures take histories as they come.

    Returns:
      Name -> concrete function of keyword tensors.

    Raises:
      ValueError: a state tensor is named as a feature is.
    """
    bodies = _Bodies(model, max_history)
    used, state = _find_inputs(bodies)
    history, user, candidates = (
        {name: spec for name, spec in specs.items() if name in used}
        for specs in _specs(model.schema)
    )
    examples = {EXAMPLES: tf.TensorSpec([None], tf.string, EXAMPLES)}
    signatures = {
        SERVING_DEFAULT: _trace(bodies.predict, {**history, **user, **candidates}),
        PREDICT_EXAMPLES: _trace(bodies.predict_examples, examples),
        ENCODE_USER: _trace(bodies.encode, {**history, **user}),
        SCORE_CANDIDATES: _trace(bodies.score, {**state, **candidates}),
    }
    if model.is_incremental:
        signatures[UPDATE_USER] = _trace(bodies.update, {**state, **history})
    groups = model.serving_spec.groups
    if groups is not None:
        item = history[feature_name(HISTORY, model.schema.field(ITEM))]
        totals = {
            name: tf.TensorSpec(item.shape, tf.int32, name)
            for name in map(total_feature, groups.statistic_names)
        }
        signatures[ENCODE_GROUPS] = _trace(bodies.encode_groups, {**history, **totals})
        if state.keys() != signatures[ENCODE_GROUPS].structured_outputs.keys():
            signatures[ENCODE_RETRIEVED] = _trace(bodies.encode_retrieved, {**history, **user})
    return signatures


def total_feature(statistic: str) -> str:
    """Name of the input of `encode_groups` with a running statistic of each event's group."""
    return f"{PREFIX[HISTORY]}{TOTAL}{statistic}"


def signature_specs(function) -> tuple[Specs, Specs]:
    """Name -> shape and type of the inputs of a traced or loaded signature, and of its outputs."""
    outputs = {
        name: tf.TensorSpec(tensor.shape, tensor.dtype, name)
        for name, tensor in function.structured_outputs.items()
    }
    return dict(function.structured_input_signature[1]), outputs


class _Bodies:
    """Bodies of the signatures: functions of raw keyword tensors. `encode` is traced first."""

    def __init__(self, model: CTRModel, max_history: int):
        self.model = model
        self.schema = model.schema
        self.max_history = max_history
        # A half-precision model's state leaves as float32 and has to come back as what it was.
        self._state_dtypes: dict[str, tf.DType] = {}

    def predict(self, **raw) -> Tensors:
        features = self._features(raw)
        return _results(self._logits(features), features[CANDIDATE_MASK])

    def predict_examples(self, examples: tf.Tensor) -> Tensors:
        rows = parse_rows(examples, self.schema)
        # At least 1 each: not every operation takes an empty axis.
        time = tf.reduce_max(tf.concat([rows.position, [1]], axis=0))
        width = tf.reduce_max(tf.concat([rows.count, [1]], axis=0))
        time = tf.minimum(time, self.max_history)
        features = cut(rows, self.schema, tf.range(tf.size(rows.user)), time, width)
        logits = self._logits(_clip_ids(features, self.schema))
        # Back from cuts to records: candidate n of a record, as written, is column n of its row. A
        # server that merges requests needs as many rows as there were records.
        counts = tf.math.unsorted_segment_sum(rows.count, rows.user, tf.size(examples))
        record_logits = tf.boolean_mask(logits, features[_MASKS[CANDIDATE]])
        record_logits = tf.RaggedTensor.from_row_lengths(record_logits, counts).to_tensor()
        return _results(record_logits, tf.sequence_mask(counts, tf.shape(record_logits)[1]))

    def encode(self, **raw) -> Tensors:
        state = flatten_state(self.model.encode_user(self._features(raw)))
        self._state_dtypes.update({name: value.dtype for name, value in state.items()})
        return _outgoing(state)

    def encode_groups(self, **raw) -> Tensors:
        totals = {name: value for name, value in raw.items() if name.startswith(total_feature(""))}
        features = self._features({n: value for n, value in raw.items() if n not in totals})
        groups = self.model.encode_user({**features, **totals})[GROUP_ENCODER]
        spec = self.model.serving_spec.groups
        if spec is not None and spec.groups is None:
            # One for each event that the index sent, most of which share a group with others.
            count = tf.reduce_max(tf.math.count_nonzero(groups[MASK], axis=1, dtype=tf.int32))
            groups = {name: value[:, : tf.maximum(count, 1)] for name, value in groups.items()}
        return _outgoing(flatten_state({GROUP_ENCODER: groups}))

    def encode_retrieved(self, **raw) -> Tensors:
        # The groups are in the graph too, but not among the outputs: they are pruned.
        state = self.model.encode_user(self._features(raw))
        return _outgoing(flatten_state({n: v for n, v in state.items() if n != GROUP_ENCODER}))

    def score(self, **raw) -> Tensors:
        state, features = self._split(raw)
        return _results(self.model.score(state, features)[LOGITS], features[CANDIDATE_MASK])

    def update(self, **raw) -> Tensors:
        state, features = self._split(raw)
        return _outgoing(flatten_state(self.model.update_user(state, features)))

    def _logits(self, features: Mapping[str, tf.Tensor]) -> tf.Tensor:
        return self.model.score(self.model.encode_user(features), features)[LOGITS]

    def _split(self, raw: Mapping[str, tf.Tensor]) -> tuple[dict[str, Any], Tensors]:
        """The nested state in the model's own types, and the features."""
        state = {name: tensor for name, tensor in raw.items() if name in self._state_dtypes}
        features = self._features({n: tensor for n, tensor in raw.items() if n not in state})
        users = tf.shape(next(iter(features.values())))[0]
        checks = [
            tf.debugging.assert_equal(
                tf.shape(tensor)[0], users, f"{name} and the features must be of as many users."
            )
            for name, tensor in state.items()
        ]
        with tf.control_dependencies(checks):
            state = {n: tf.cast(tensor, self._state_dtypes[n]) for n, tensor in state.items()}
            return unflatten_state(state), features

    def _features(self, raw: Mapping[str, tf.Tensor]) -> Tensors:
        """A batch with masks, ids within their vocabularies, and zeros for features that `raw` lacks."""
        raw = _padded_to_one(_check_shapes(raw, self.schema), self.schema)
        features: Tensors = {}
        for role, mask in _MASKS.items():
            item = raw.get(feature_name(role, self.schema.field(ITEM)))
            if item is not None:
                features[mask] = item != PADDING_ID
                features.update(_complete(raw, _role_specs(self.schema, role), item))
        zeros = tf.zeros_like(next(iter(features.values()))[:, 0], tf.int32)  # [users]
        for role in OF_ROWS:
            features.update(_complete(raw, _role_specs(self.schema, role), zeros))
        return _clip_ids(features, self.schema)


def _find_inputs(bodies: _Bodies) -> tuple[set[str], Specs]:
    """Traces a model on all features of its schema.

    Returns:
      Names of the features that any result depends on, and the specs of the state.
    """
    schema = bodies.schema
    history, user, candidates = _specs(schema)
    encode = _trace(bodies.encode, {**history, **user})
    # A state has as many users as a request, and its other sizes are those of the trace.
    state = {
        name: tf.TensorSpec([None, *tensor.shape[1:]], tensor.dtype, name)
        for name, tensor in encode.structured_outputs.items()
    }
    if clashes := sorted(set(state) & {*history, *user, *candidates}):
        raise ValueError(f"state tensors must not be named as features are; rename {clashes}.")
    used = _inputs_read(encode) | _inputs_read(_trace(bodies.score, {**state, **candidates}))
    if bodies.model.is_incremental:
        used |= _inputs_read(_trace(bodies.update, {**state, **history}))
    # Items are inputs in any case: they tell what is padding.
    return used | {feature_name(role, schema.field(ITEM)) for role in _MASKS}, state


def _trace(function: Callable[..., Tensors], specs: Specs):
    """A concrete function that takes the tensors of `specs` by keyword."""
    return tf.function(function, autograph=False).get_concrete_function(**specs)


def _inputs_read(function) -> set[str]:
    """Names of the inputs of a concrete function that its outputs depend on."""
    # Backwards from the outputs, since a trace has placeholders for inputs that nothing reads.
    frontier = [tensor.op for tensor in function.outputs]
    reachable = set(frontier)
    while frontier:
        earlier = {tensor.op for tensor in frontier.pop().inputs} - reachable
        reachable |= earlier
        frontier.extend(earlier)
    arguments = {tensor.op for tensor in function.inputs} & reachable
    return {operation.get_attr("_user_specified_name").decode() for operation in arguments}


def _specs(schema: Schema) -> tuple[Specs, Specs, Specs]:
    """Features of histories, of users, and of candidates with the context of their request."""
    candidates = {**_role_specs(schema, CANDIDATE), **_role_specs(schema, CONTEXT)}
    return _role_specs(schema, HISTORY), _role_specs(schema, USER), candidates


def _role_specs(schema: Schema, role: str) -> Specs:
    """Name -> shape and type of a role's features."""
    shape = [None] if role in OF_ROWS else [None, None]
    names = {feature_name(role, field): field for field in schema.with_role(role)}
    return {
        name: tf.TensorSpec([*shape, *field.shape], field.dtype, name)
        for name, field in names.items()
    }


def _complete(raw: Mapping[str, tf.Tensor], specs: Specs, like: tf.Tensor) -> Tensors:
    """The features of `specs`, with zeros in the shape of `like` for those that `raw` lacks."""

    def zeros(spec: tf.TensorSpec) -> tf.Tensor:
        values = spec.shape[like.shape.rank :]  # of a multi-valued field
        return tf.zeros(tf.concat([tf.shape(like), values.as_list()], axis=0), spec.dtype)

    return {name: raw[name] if name in raw else zeros(spec) for name, spec in specs.items()}


def _check_shapes(raw: Mapping[str, tf.Tensor], schema: Schema) -> Tensors:
    """Checks, in the graph, that shapes fit each other; returns the tensors behind the checks."""
    users = tf.shape(next(iter(raw.values())))[0]
    checks = []
    for name, tensor in raw.items():
        message = f"{name} and {next(iter(raw))} must be of as many users."
        checks.append(tf.debugging.assert_equal(tf.shape(tensor)[0], users, message))
    for role in _MASKS:
        item = feature_name(role, schema.field(ITEM))
        for name in sorted(set(_role_specs(schema, role)) & set(raw)):
            message = f"{name} must have the shape of {item}, one value for every id."
            shape = tf.shape(raw[name])[:2]
            checks.append(tf.debugging.assert_equal(shape, tf.shape(raw[item]), message))
    # Without the dependency, pruning would remove checks that no output needs.
    with tf.control_dependencies(checks):
        return {name: tf.identity(tensor) for name, tensor in raw.items()}


def _padded_to_one(raw: Mapping[str, tf.Tensor], schema: Schema) -> Tensors:
    """Histories of no events at all as one column of padding: not every operation takes an empty axis."""
    padded = dict(raw)
    for name in set(_role_specs(schema, HISTORY)) & set(raw):
        missing = tf.cast(tf.equal(tf.shape(raw[name])[1], 0), tf.int32)
        more_axes = [[0, 0]] * (raw[name].shape.rank - 2)
        padded[name] = tf.pad(raw[name], [[0, 0], [0, missing], *more_axes])
    return padded


def _clip_ids(features: Mapping[str, tf.Tensor], schema: Schema) -> Tensors:
    """Sets ids outside their vocabulary to the unknown id, so that no lookup fails."""
    batch = dict(features)
    for name, field in schema.features().items():
        if field.is_categorical and name in batch:
            size = schema.vocabulary_sizes[field.vocabulary]
            outside = (batch[name] < 0) | (batch[name] >= size)
            batch[name] = tf.where(outside, UNKNOWN_ID, batch[name])
    return batch


def _outgoing(state: Mapping[str, tf.Tensor]) -> Tensors:
    return {
        name: tf.cast(tensor, tf.float32) if tensor.dtype.is_floating else tf.identity(tensor)
        for name, tensor in state.items()
    }


def _results(logits: tf.Tensor, mask: tf.Tensor) -> Tensors:
    """Scores of candidates, those of padding below all others; logits and mask [users, candidates]."""
    # Not minus infinity, which JSON cannot hold; its sigmoid is 0 as well.
    logits = tf.where(mask, tf.cast(logits, tf.float32), tf.float32.min)
    return {PROBABILITIES: tf.sigmoid(logits), LOGITS: logits, SCORE_MASK: mask}
