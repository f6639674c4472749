"""What may be compiled as a whole, and what says that it need not be."""

import tensorflow as tf

from dgin_tf.ops.compiling import (
    MIN_XLA_ROWS,
    graph_function,
    leaves_xla,
    leaving_xla,
    should_compile,
)


def _said(seen, values):
    seen.append(leaves_xla())
    return values + 1


class _Seen(list):
    """A list that can be a setting of a traced function."""

    __hash__ = object.__hash__


def test_everything_can_be_compiled_unless_it_is_said_to_be_left():
    assert not leaves_xla()
    with leaving_xla():
        assert leaves_xla()
        with leaving_xla(False):
            assert not leaves_xla()
        assert leaves_xla()
    assert not leaves_xla()


def test_what_xla_compiles_within_stays_compilable():
    for jit in (False, True):
        seen = _Seen()
        with leaving_xla():
            graph_function(_said, (seen,), jit, "here")(tf.constant(1))
        assert list(seen) == [not jit]


def test_what_was_traced_for_a_step_that_leaves_xla_is_not_taken_elsewhere():
    seen = _Seen()
    for leaves in (True, False, True):
        with leaving_xla(leaves):
            graph_function(_said, (seen,), False, "there")(tf.constant(1))
    assert list(seen) == [True, False]


def test_known_rows_decide_and_unknown_ones_are_trusted_in_training_alone():
    cases = [(MIN_XLA_ROWS, False), (MIN_XLA_ROWS - 1, True), (None, True), (None, False)]
    assert not any(should_compile(*case) for case in cases)  # nothing is compiled eagerly
    with tf.Graph().as_default():
        assert [should_compile(*case) for case in cases] == [True, False, True, False]


def test_tracing_many_signatures_is_no_retracing_that_tensorflow_would_warn_of(monkeypatch):
    warnings = []
    monkeypatch.setattr(tf.get_logger(), "warning", lambda text, *_: warnings.append(text))
    for size in range(1, 9):
        seen = _Seen()
        graph_function(_said, (seen,), False, ("many", size))(tf.ones(size))
        assert len(seen) == 1
    assert warnings == []
