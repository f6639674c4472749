"""The schema: the one description of the data."""

import pytest

from dgin_tf.schema import CANDIDATE, HISTORY, USER, Field, Schema, feature_name, negative_name
from tests.prepared import make_schema


def test_json_round_trip_gives_the_same_schema_and_the_same_bytes():
    schema = make_schema()
    assert Schema.from_json(schema.to_json()) == schema
    assert Schema.from_json(schema.to_json()).to_json() == schema.to_json()


def test_a_saved_schema_loads_and_leaves_no_temporary_file(tmp_path):
    make_schema().save(tmp_path)
    assert Schema.load(tmp_path) == make_schema()
    assert [path.name for path in tmp_path.iterdir()] == ["schema.json"]


def test_a_folder_without_schema_is_named_in_the_error(tmp_path):
    with pytest.raises(FileNotFoundError, match="data_prep.prepare"):
        Schema.load(tmp_path)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"format_version": 99}'])
def test_text_that_is_no_schema_is_refused(text):
    with pytest.raises(ValueError, match="expected a dgin_tf schema"):
        Schema.from_json(text)


def test_only_ids_that_events_and_candidates_share_are_paired():
    assert [field.name for field in make_schema().paired_fields] == ["item_id", "category_id"]


def test_feature_names_carry_the_role():
    field = Field("item_id", (HISTORY, CANDIDATE), "item_id")
    assert feature_name(HISTORY, field) == "hist_item_id"
    assert feature_name(CANDIDATE, field) == "cand_item_id"
    assert feature_name(USER, Field("user_gender", (USER,), "gender")) == "user_gender"
    assert feature_name(USER, Field("gender", (USER,), "gender")) == "user_gender"
    assert negative_name("hist_item_id") == "hist_negative_item_id"


def test_any_change_of_the_data_changes_the_fingerprint():
    schemas = [make_schema(max_history=n) for n in (46, 47)]
    assert schemas[0].fingerprint() != schemas[1].fingerprint()
    assert schemas[0].fingerprint() == make_schema(max_history=46).fingerprint()


def test_a_repeated_field_is_refused():
    field = Field("item_id", (HISTORY,), "item_id")
    with pytest.raises(ValueError, match="unique"):
        Schema((field, field), {"item_id": 5}, 7)


def test_a_vocabulary_without_size_is_refused():
    with pytest.raises(ValueError, match="vocabulary 'brand'"):
        Schema((Field("brand_id", (HISTORY,), "brand"),), {}, 7)


def test_an_unknown_role_is_refused():
    with pytest.raises(ValueError, match="roles among"):
        Field("item_id", ("history", "label"), "item_id")


def test_the_fingerprint_of_a_schema_stays_what_it_was():
    assert make_schema().fingerprint() == "e0c5a7018e8478c9"
