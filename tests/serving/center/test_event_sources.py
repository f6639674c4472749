"""Files that grow and pipes: every line once, from where the last acknowledgement was."""

import json
import os

import pytest

from dgin_tf.serving.center import event_sources
from dgin_tf.serving.center.dead_letters import DeadLetters
from dgin_tf.serving.center.event_sources import GrowingFile, StandardInput, position_of_file


@pytest.fixture
def path(tmp_path):
    (tmp_path / "log").write_bytes(b"one\ntwo\nthree\n")
    return tmp_path / "log"


def opened(path, follow=False):
    return GrowingFile(path, path.with_suffix(".offset"), follow)


def rest(source):
    lines = []
    while not source.is_finished:
        lines += source.read(2)
    source.close()
    return lines


def test_a_file_is_read_to_its_end(path):
    assert rest(opened(path)) == [b"one", b"two", b"three"]


def test_a_file_is_read_on_from_what_was_acknowledged(path):
    source = opened(path)
    source.read(1)
    source.acknowledge()
    source.read(1)
    assert source.position() == position_of_file(path.with_suffix(".offset"))
    assert source.position()["offset"] == 4
    assert rest(opened(path)) == [b"two", b"three"]


def test_a_line_without_its_end_waits_for_it(path):
    source = opened(path, follow=True)
    source.read(9)
    with open(path, "ab") as file:
        file.write(b"fo")
        file.flush()
        assert source.read(9) == []
        source.acknowledge()
        file.write(b"ur\n")
    assert source.read(9) == [b"four"]
    assert not source.is_finished
    assert rest(opened(path)) == [b"four"]


def test_long_lines_and_many_lines_are_cut_alike(tmp_path):
    lines = [b"x" * (n % 7919) for n in range(601)] + [b"y" * 700_000, b""]
    (tmp_path / "log").write_bytes(b"\n".join(lines) + b"\n")
    assert rest(opened(tmp_path / "log")) == lines


def test_a_rewound_file_is_read_again(path):
    source = opened(path)
    source.read(3)
    source.acknowledge()
    source.rewind({"offset": 4})
    assert source.read(9) == [b"two", b"three"]
    assert rest(opened(path)) == [b"two", b"three"]


def test_a_position_in_streams_is_none_in_a_file(path):
    source = opened(path)
    with pytest.raises(
        ValueError, match=r"expected a position in .*; got one in the streams a, offset"
    ):
        source.rewind({"offset": "12-0", "a": "0-1"})
    assert source.read(1) == [b"one"]


def test_a_file_that_was_cut_is_refused(path):
    source = opened(path)
    source.read(3)
    source.acknowledge()
    path.write_bytes(b"new\n")
    with pytest.raises(ValueError, match="has 4 bytes and is not the file of which 14 were read"):
        opened(path)


def test_a_longer_file_in_its_place_is_refused(path):
    source = opened(path)
    source.read(2)
    source.acknowledge()
    before = source.position()
    path.write_bytes(b"another\nfile\nof\nthat\nname\n")
    with pytest.raises(ValueError, match="has 26 bytes and is not the file of which 8 were read"):
        opened(path)
    path.with_suffix(".offset").unlink()
    again = opened(path)
    with pytest.raises(ValueError, match="cut or replaced"):
        again.rewind(before)
    assert rest(again) == [b"another", b"file", b"of", b"that", b"name"]


@pytest.mark.parametrize("how", ["replaced", "cut"])
def test_a_file_that_is_replaced_while_it_is_followed_ends_the_source(path, how, monkeypatch):
    monkeypatch.setattr(event_sources, "_CHECK_SECONDS", 0.0)
    source = opened(path, follow=True)
    source.read(9)
    assert source.read(9) == []
    if how == "replaced":
        path.rename(path.with_suffix(".1"))
        assert source.read(9) == []  # in between there is none
        path.write_bytes(b"one\ntwo\nthree\nfour\n")
    else:
        path.write_bytes(b"new\n")
    with pytest.raises(ValueError, match=how):
        source.read(9)


def test_an_offset_that_an_earlier_release_wrote_is_good(path):
    offset = path.with_suffix(".offset")
    offset.write_text(json.dumps({"file": str(path), "offset": 4}))
    assert rest(opened(path)) == [b"two", b"three"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "does not say how far"),
        ("[]", "does not say how far"),
        ('{"file": "/other", "offset": 3}', "says how far /other was read"),
    ],
)
def test_an_offset_that_is_none_is_refused(path, content, message):
    path.with_suffix(".offset").write_text(content)
    with pytest.raises(ValueError, match=message):
        opened(path)


def test_a_pipe_ends_with_its_last_line_whole_or_not():
    reading, writing = os.pipe()
    source = StandardInput(reading)
    os.write(writing, b"one\ntwo\nthr")
    assert source.read(1) == [b"one"]
    assert source.read(9) == [b"two"]
    os.write(writing, b"ee")
    os.close(writing)
    assert rest(source) == [b"three"]
    os.close(reading)


def test_dead_letters_go_on_after_a_line_that_was_cut(tmp_path):
    (tmp_path / "letters").write_bytes(b'{"reason": "was cut')
    letters = DeadLetters(tmp_path / "letters")
    for line in (b"{", b"\xff"):
        letters.write([(line, "bad")])
    assert (tmp_path / "letters").read_text().splitlines() == [
        '{"reason": "was cut',
        '{"reason": "bad", "line": "{"}',
        '{"reason": "bad", "line": "\\\\xff"}',
    ]
