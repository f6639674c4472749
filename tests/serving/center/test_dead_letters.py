"""What a command says of the lines that it could not apply."""

import pytest

from dgin_tf.serving.center.dead_letters import DeadLetters


@pytest.fixture
def letters(tmp_path):
    return DeadLetters(tmp_path / "letters")


def test_without_bad_lines_there_is_nothing_to_say(letters):
    assert letters.summary(lines=0, usable=0) == ""
    assert letters.summary(lines=7, usable=7) == ""


def test_the_first_reason_and_the_file_are_named(letters, tmp_path):
    letters.write([(b"a", "no JSON"), (b"b", "too late")])
    letters.write([(b"c", "other")])
    assert letters.summary(lines=5, usable=2) == (
        f"3 lines were refused, the first because: no JSON; all are in {tmp_path / 'letters'}"
    )


def test_lines_none_of_which_was_usable_are_an_error(letters):
    letters.write([(b"a", "no JSON")])
    with pytest.raises(
        ValueError, match="none of 1 lines is an event .* because: no JSON; all are"
    ):
        letters.summary(lines=1, usable=0)
