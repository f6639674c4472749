"""Blocks of lines: the fast way and the slow way agree, and no line is lost."""

import json

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_prep.readers.base import Piece
from data_prep.readers.cells import DECIMAL, INTEGER, WORD
from data_prep.readers.parsers import Delimited, JsonLines
from data_prep.readers.rows import check_layout, first_lines, parse_rows, read_rows
from tests.data_prep.readers.reading import count_lines, damage, damaged

KINDS = {"id": INTEGER, "name": WORD, "price": DECIMAL}
COLUMNS = ("id", "skipped", "name", "price")
CELLS = st.text(st.characters(codec="utf-8", exclude_characters='\n\r,|:"\x1f'), max_size=9)
ROWS = st.lists(
    st.tuples(
        st.integers(-(2**63), 2**63 - 1), CELLS, CELLS, st.floats(-1e9, 1e9).map(lambda x: x + 0.0)
    ),
    max_size=23,
)
SEPARATORS = [",", "|", "::"]


def block_of(rows, separator):
    return "".join(separator.join(map(str, row)) + "\n" for row in rows).encode()


def tuples(table):
    return [tuple(row) for row in table.itertuples(index=False)]


@settings(max_examples=60, deadline=None)
@given(ROWS, st.sampled_from(SEPARATORS))
def test_rows_come_back_as_they_were_written(rows, separator):
    parsed = parse_rows(block_of(rows, separator), Delimited(COLUMNS, KINDS, separator))
    assert parsed.bad == ()
    assert parsed.lines == len(rows)
    assert tuples(parsed.table) == [(number, name, price) for number, _, name, price in rows]


@settings(max_examples=60, deadline=None)
@given(ROWS.filter(len), st.sampled_from(SEPARATORS))
def test_the_fast_parser_and_the_slow_one_agree(rows, separator):
    parser, block = Delimited(COLUMNS, KINDS, separator), block_of(rows, separator)
    fast = parser.parse_many(block).to_pylist()
    assert fast == [parser.parse_one(line) for line in block.split(b"\n")[:-1]]


@settings(max_examples=80, deadline=None)
@given(ROWS, damage(), st.sampled_from(SEPARATORS), st.booleans())
def test_damage_never_loses_a_line_nor_harms_others(rows, changes, separator, quoted):
    block = damaged(block_of(rows, separator), changes)
    parser = Delimited(COLUMNS, KINDS, separator, quoted and len(separator) == 1)
    parsed = parse_rows(block, parser)
    bad = [line for line, _, _ in parsed.bad]
    assert parsed.lines == count_lines(block)
    assert sorted([*parsed.table.index, *bad]) == list(range(parsed.lines))
    whole = block_of(rows, separator).split(b"\n")
    for number, line in enumerate(block.split(b"\n")[: parsed.lines]):
        if line in whole and line:
            assert number not in bad


@settings(max_examples=60, deadline=None)
@given(ROWS, damage())
def test_damaged_json_never_loses_a_line(rows, changes):
    names = ("id", "skipped", "name", "price")
    lines = [json.dumps(dict(zip(names, row, strict=True))) + "\n" for row in rows]
    block = damaged("".join(lines).encode(), changes)
    parsed = parse_rows(block, JsonLines(KINDS))
    assert len(parsed.table) + len(parsed.bad) == parsed.lines == count_lines(block)


def test_an_integer_that_float64_rounds_is_a_decimal_line_by_line_too():
    good, bad = b'{"id": 1, "name": "n", "price": 9007199990234375001}\n', b"{}\n"
    whole, slow = (parse_rows(block, JsonLines(KINDS)) for block in (good, good + bad))
    assert slow.table["price"].tolist() == whole.table["price"].tolist() == [9007199990234375001.0]


@pytest.mark.parametrize("bad_line", [b"", b"1,2", b"x,s,n,1", b"1,\xff,n,1", b'"1,s,n,1'])
def test_one_bad_line_among_thousands_is_found_with_its_number(bad_line):
    lines = [b"%d,s,n%d,0.5" % (n, n) for n in range(5_003)]
    lines[3_001] = bad_line
    parsed = parse_rows(b"\n".join(lines), Delimited(COLUMNS, KINDS))
    assert [line for line, _, _ in parsed.bad] == [3_001]
    expected = [n for n in range(5_003) if n != 3_001]
    assert parsed.table.index.tolist() == parsed.table["id"].tolist() == expected


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"", "empty line"),
        (b"1,2,3", "expected 4 columns, got 3"),
        (b"1,2,3,4,5", "expected 4 columns, got 5"),
        (b"1.0,s,n,1", "id '1.0' is no integer"),
        (b" 1,s,n,1", "id ' 1' is no integer"),
        (b"0x1,s,n,1", "id '0x1' is no integer"),
        (b"+1,s,n,1", r"id '\+1' is no integer"),
        ("٣,s,n,1".encode(), "is no integer"),
        (b"9223372036854775808,s,n,1", "beyond int64"),
        (b"-9223372036854775809,s,n,1", "beyond int64"),
        (b"9" * 5_000 + b",s,n,1", "beyond int64"),
        (b"1,s,n,nan", "price 'nan' is no decimal"),
        (b"1,s,n,1e999", "not finite"),
        (b"1,s,\xff,1", "not UTF-8"),
        (b"1,s\rt,n,1", "carriage return"),
    ],
)
def test_what_is_wrong_with_a_line_is_said(line, reason):
    parser = Delimited(COLUMNS, KINDS)
    with pytest.raises(ValueError, match=reason):
        parser.parse_one(line)
    (fault,) = parse_rows(b"1,s,n,1\n" + line + b"\n2,s,n,1\n", parser).bad
    assert fault[0] == 1


def test_a_line_that_the_end_of_the_file_cuts_short_is_said_to_be():
    (fault,) = parse_rows(b"1,s,n,1\n2,s", Delimited(COLUMNS, KINDS)).bad
    assert fault == (1, "truncated last line: expected 4 columns, got 2", "2,s")


def test_windows_line_ends_are_line_ends():
    parsed = parse_rows(b"1,s,n,1\r\n2,s,m,2\r\n", Delimited(COLUMNS, KINDS))
    assert tuples(parsed.table) == [(1, "n", 1.0), (2, "m", 2.0)]
    assert Delimited(COLUMNS, KINDS).parse_one(b"1,s,n,1\r")["price"] == 1.0


def test_quoted_cells_may_hold_separators_and_quotes():
    parser = Delimited(("id", "name"), {"id": INTEGER, "name": WORD}, quotes=True)
    block = b'1,"a, b"\n2,"say ""c"""\n3,d\n'
    assert tuples(parse_rows(block, parser).table) == [(1, "a, b"), (2, 'say "c"'), (3, "d")]
    assert parser.parse_one(b'2,"say ""c"""') == {"id": 2, "name": 'say "c"'}
    with pytest.raises(ValueError, match="quotation"):
        parser.parse_one(b'1,"open')
    with pytest.raises(ValueError, match="one character"):
        Delimited(COLUMNS, KINDS, "::", quotes=True)


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"  ", "empty line"),
        (b"{", "no JSON"),
        (b"[1]", "expected a JSON object, got list"),
        (b'{"name": "n", "price": 1}', "no id"),
        (b'{"id": 1, "name": "", "price": 1}', "name is empty"),
        (b'{"id": 1, "name": 5, "price": 1}', "name '5' is no text"),
        (b'{"id": "1", "name": "n", "price": 1}', "id '1' is no integer"),
        (b'{"id": true, "name": "n", "price": 1}', "id 'True' is no integer"),
        (b'{"id": 9223372036854775808, "name": "n", "price": 1}', "beyond int64"),
        (b'{"id": 1, "name": "n", "price": NaN}', "not finite"),
        (b'{"id": 1, "name": "n", "price": 1e999}', "not finite"),
        (b'{"id": 1, "name": "a\\nb", "price": 1}', "line break"),
        (b'{"id": 1, "name": "\\ud800", "price": 1}', "surrogate"),
        (b'{"id": 1, "name": "\xff", "price": 1}', "not UTF-8"),
        (b"[" * 100_000, "reasonable size"),
    ],
)
def test_what_is_wrong_with_a_json_line_is_said(line, reason):
    parser, good = JsonLines(KINDS), b'{"id": 1, "name": "n", "price": 2.5, "other": [1]}'
    with pytest.raises(ValueError, match=reason):
        parser.parse_one(line)
    parsed = parse_rows(good + b"\n" + line + b"\n" + good, parser)
    assert tuples(parsed.table) == [(1, "n", 2.5)] * 2
    assert [number for number, _, _ in parsed.bad] == [1]


def test_rejected_rows_keep_line_and_text():
    rows = parse_rows(b"1,s,n,1\nx\n-2,s,m,2\n3,s,o,3\n", Delimited(COLUMNS, KINDS))
    rows = rows.reject(rows.table["id"].to_numpy() < 0, "negative id")
    assert rows.bad[1] == (2, "negative id", "-2,s,m,2")
    assert [line for line, _, _ in rows.bad] == [1, 2]
    assert rows.table.index.tolist() == [0, 3]
    assert rows.reject(np.zeros(2, bool), "nothing") is rows
    assert rows.keep(np.array([False, True])).table["id"].tolist() == [3]


def test_a_header_and_a_byte_order_mark_are_no_rows(tmp_path):
    path = tmp_path / "table.csv"
    path.write_bytes(b"\xef\xbb\xbfid,skipped,name,price\n1,s,n,1\nbad\n")
    (rows,) = read_rows(Piece(str(path), 0, path.stat().st_size), Delimited(COLUMNS, KINDS), True)
    assert (rows.lines, rows.table.index.tolist(), rows.bad[0][0]) == (3, [1], 2)
    assert rows.reject(np.array([True]), "r").bad[0] == (1, "r", "1,s,n,1")
    assert first_lines(str(path), 2) == [b"id,skipped,name,price", b"1,s,n,1"]


def test_a_file_of_another_layout_is_named_with_its_first_line(tmp_path):
    path = tmp_path / "log.txt"
    path.write_bytes(b"hello there\n" * 200)
    with pytest.raises(
        ValueError, match=r"expected four cells; got a file that begins 'hello there'"
    ):
        check_layout(str(path), Delimited(COLUMNS, KINDS), "four cells")
    path.write_bytes(b"hello there\n1,s,n,1\n")
    check_layout(str(path), Delimited(COLUMNS, KINDS), "four cells")
    path.write_bytes(b"")
    check_layout(str(path), Delimited(COLUMNS, KINDS), "four cells")


def test_an_empty_block_gives_an_empty_typed_table():
    table = parse_rows(b"", Delimited(COLUMNS, KINDS)).table
    assert (len(table), table["id"].dtype, table["price"].dtype) == (0, np.int64, np.float64)
    assert pd.api.types.is_string_dtype(table["name"].dtype)
