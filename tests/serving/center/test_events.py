"""From a line of JSON to an event, or to the reason why it is none."""

import dataclasses
import json

import pytest

from dgin_tf.schema import HISTORY, Field
from dgin_tf.serving.center.events import LONGEST_LINE, BadEventError, EventParser
from dgin_tf.serving.export.vocabularies import Vocabularies, user_key
from tests.serving.center.following import CATALOGUE, SCHEMA, event

KNOWN = {"user_id": "u2\nu3\n", "item_id": "a\nb\n", "category_id": "x\ny\n"}


@pytest.fixture
def raw(tmp_path):
    """A parser of raw ids."""
    (tmp_path / "vocabulary").mkdir()
    for name, text in KNOWN.items():
        (tmp_path / "vocabulary" / f"{name}.txt").write_text(text)
    return EventParser(SCHEMA, CATALOGUE, Vocabularies(tmp_path))


dense = EventParser(SCHEMA, CATALOGUE)


def test_raw_ids_are_translated(raw):
    actual = raw(event("u3", 7, "b", 20, category_id="y"))
    assert (actual.user, actual.user_id, actual.sequence, actual.time) == (3, 3, 7, 20)
    assert actual.values == {"item_id": 3, "category_id": 3, "timestamp": 20}


def test_a_field_that_the_catalogue_knows_may_be_left_out(raw):
    assert raw(event("u3", 7, "b")).values["category_id"] == CATALOGUE["category_id"][3]


def test_ids_that_nobody_has_seen_are_out_of_vocabulary(raw):
    actual = raw(event("u3", 1, "never", category_id=17))
    assert (actual.values["item_id"], actual.values["category_id"]) == (1, 1)
    assert dense(event(5, 1, 10**9)).values["item_id"] == 1


def test_strangers_share_an_id_and_never_a_state(raw):
    one, other, again = (raw(event(name, 1, "a")) for name in ("anna", "otto", "anna"))
    assert one.user_id == other.user_id == 1
    assert one.user == again.user == user_key("anna", {})
    assert 2**62 <= min(one.user, other.user) <= max(one.user, other.user) < 2**63
    assert one.user != other.user


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b'{"user_id": 3', "no JSON"),
        (b"\xff\xfe{}", "no JSON"),
        (b"", "no JSON"),
        (b"[" * 100_000, "no JSON"),
        (b"[3]", "expected a JSON object; got list"),
        (b" " * (LONGEST_LINE + 1), "longer than"),
        (event(3, 1, 5, price=3), "unknown fields: price"),
        (event(3, 1, 5, 1_700_000_000_000), "timestamp 1700000000000 is more than a day ahead"),
        (event(1, 1, 5), "user_id must be a whole number from 2 on; got 1"),
        (event("u3", 1, 5), "user_id must be a whole number"),
        (event(3, 0, 5), "sequence must be a whole number from 1 on; got 0"),
        (event(3, 2**63, 5), "sequence must be"),
        (event(3, True, 5), "sequence must be"),
        (event(3, 1, 5, -1), "timestamp must be a whole number from 0 on; got -1"),
        (event(3, 1, 5, 3.5), "timestamp must be"),
        (json.dumps({"user_id": 3, "sequence": 1, "timestamp": 5}).encode(), "item_id must be"),
    ],
)
def test_what_is_no_event_says_why(line, reason):
    with pytest.raises(BadEventError, match=reason):
        dense(line)


def test_raw_ids_are_texts_or_whole_numbers(raw):
    with pytest.raises(BadEventError, match="item_id must be a text or a whole number; got 3.5"):
        raw(event("u3", 1, 3.5))


def test_a_vocabulary_that_is_missing_is_one_sentence(tmp_path):
    with pytest.raises(ValueError, match="the bundle has no vocabulary"):
        EventParser(SCHEMA, CATALOGUE, Vocabularies(tmp_path))


def with_types():
    """A schema whose events have a behavior type."""
    types = Field("behavior_type", (HISTORY,), "behavior_type")
    sizes = {**SCHEMA.vocabulary_sizes, "behavior_type": 6}
    return dataclasses.replace(SCHEMA, fields=(*SCHEMA.fields, types), vocabulary_sizes=sizes)


def test_a_field_that_the_model_does_not_read_needs_no_vocabulary(raw, tmp_path):
    vocabularies = Vocabularies(tmp_path)
    reads = {"item_id", "category_id"}
    parser = EventParser(with_types(), CATALOGUE, vocabularies, fields_read=reads)
    plain = parser(event("u3", 1, "b")).values
    assert plain == {
        "item_id": 3,
        "category_id": CATALOGUE["category_id"][3],
        "behavior_type": 1,
        "timestamp": 1001,
    }
    assert parser(event("u3", 1, "b", behavior_type="pv")).values == plain
    with pytest.raises(ValueError, match="no vocabulary 'behavior_type'"):
        EventParser(with_types(), CATALOGUE, vocabularies, fields_read={*reads, "behavior_type"})
    with pytest.raises(BadEventError, match="item_id must be"):
        parser(json.dumps({"user_id": "u3", "sequence": 1, "timestamp": 5}).encode())


def test_a_field_that_the_model_does_not_read_is_translated_where_that_is_possible():
    parser = EventParser(with_types(), CATALOGUE, fields_read={"item_id"})
    assert parser(event(3, 1, 5, behavior_type=3)).values["behavior_type"] == 3
    assert parser(event(3, 1, 5)).values["behavior_type"] == 1
    with pytest.raises(BadEventError, match="behavior_type must be a whole number"):
        EventParser(with_types(), CATALOGUE)(event(3, 1, 5))


def test_labels_and_amounts_are_unknown_where_they_are_left_out():
    fields = (Field("dwell", (HISTORY,)), Field("location", (HISTORY,), "location"))
    sizes = {**SCHEMA.vocabulary_sizes, "location": 9}
    schema = dataclasses.replace(SCHEMA, fields=(*SCHEMA.fields, *fields), vocabulary_sizes=sizes)
    parser = EventParser(schema, CATALOGUE)
    assert parser(event(5, 1, 3, location=4)).values["location"] == 4
    assert parser(event(5, 1, 3)).values["location"] == 1
    assert parser(event(5, 1, 3, dwell=2.5)).values["dwell"] == 2501
    assert parser(event(5, 1, 3, dwell=0)).values["dwell"] == 1
    assert parser(event(5, 1, 3)).values["dwell"] == 0
    for wrong in (-1, "long", True, 1e99):
        with pytest.raises(BadEventError, match="dwell must be a number from 0 to"):
            parser(event(5, 1, 3, dwell=wrong))
