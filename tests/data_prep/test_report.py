"""The data card counts what happened, and its page shows it without help from elsewhere."""

import dataclasses
import html.parser
import json

import pytest

from data_prep.card import add_up, check_examples, check_leaks, compare_with_official
from data_prep.protocol import TIME, paper_form
from data_prep.report import report_page
from data_prep.synthetic import truth_path
from tests.data_prep.logs import preparation, rows_of, run, write_log


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    folder = tmp_path_factory.mktemp("report")
    rows = rows_of() + [(1, 1, 1, "pv", 5)]
    card = run(preparation(write_log(folder, rows), split_by=TIME), folder / "out")
    return folder / "out", card


class Reader(html.parser.HTMLParser):
    """Collects a page's tags, the addresses that it points at, and its text."""

    def __init__(self):
        super().__init__()
        self.open, self.links, self.text = [], [], []

    def handle_starttag(self, tag, attrs):
        self.links += [value for name, value in attrs if name in ("src", "href")]
        if tag != "meta":
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


def parsed(page):
    reader = Reader()
    reader.feed(page)
    return reader


def test_the_page_is_whole_and_needs_nothing_else(prepared):
    page = parsed((prepared[0] / "report.html").read_text())
    assert (page.open, page.links) == ([], [])


def test_the_page_shows_counts_checks_and_checksums(prepared):
    output, card = prepared
    text = " ".join(parsed((output / "report.html").read_text()).text)
    for shown in (
        card["inputs"][0]["sha256"],
        f"{card['histories']['events']:,}",
        "splits that overlap in time passed",
        "timestamp outside (1511539200, 1512316799)",
        "100,150,807",
    ):
        assert shown in " ".join(text.split())


def test_the_card_is_the_json_beside_the_page(prepared):
    output, card = prepared
    assert json.loads((output / "data_card.json").read_text()) == json.loads(json.dumps(card))


def test_counts_add_up_over_the_stages(prepared):
    _, card = prepared
    read, histories = card["partition"], card["histories"]
    assert read["lines"] == read["events"] + read["bad_rows"] == len(rows_of()) + 1
    assert read["kept_events"] == histories["events"] + histories["duplicates"] == read["events"]
    splits = card["splits"].values()
    targets = sum(split["positives"] for split in splits)
    left_out = sum(n for name, n in card["examples"].items() if name != "targets")
    assert card["examples"]["targets"] == targets + left_out


def test_names_from_the_input_are_escaped(prepared):
    card = json.loads(json.dumps(prepared[1]))
    card["inputs"][0]["file"] = "<script>x</script>.csv"
    assert "<script" not in report_page(card)


def test_a_complete_public_file_is_recognized(prepared):
    card = prepared[1]
    rows = card["partition"]["lines"]
    same, other = compare_with_official(card, {"a": {"events": rows}, "b": {"events": rows + 1}})
    assert (same["complete"], other["complete"]) == (True, False)
    assert other["counts"] == {"events": [rows + 1, rows]}


def test_a_synthetic_log_is_not_compared_with_the_public_file_of_its_layout(tmp_path):
    path = write_log(tmp_path, rows_of())
    assert run(preparation(path), tmp_path / "real")["official"]
    truth_path(path).touch()  # what makes a log a synthetic one
    card = run(preparation(path), tmp_path / "synthetic")
    assert card["official"] == []
    assert "Known public files" not in report_page(card)


def test_a_leak_fails_with_its_name_and_count(prepared):
    card = json.loads(json.dumps(prepared[1]))
    card["leaks"]["candidates from the future"] = 3
    with pytest.raises(ValueError, match="the examples leak: 3 candidates from the future"):
        check_leaks(card)


def test_splits_that_overlap_in_time_fail(prepared):
    card = json.loads(json.dumps(prepared[1]))
    card["splits"]["validation"]["first_time"] = card["splits"]["train"]["last_time"]
    with pytest.raises(ValueError, match="1 splits that overlap in time"):
        check_leaks(card)


@pytest.mark.parametrize(
    ("form", "promise"),
    [
        (lambda protocol: protocol, "candidates that see an event of their own second or later"),
        (paper_form, "(of its own second they see what sorts before it)"),
    ],
)
def test_the_page_says_which_past_was_checked(tmp_path, form, promise):
    request = preparation(write_log(tmp_path, rows_of(users=61)))
    run(dataclasses.replace(request, protocol=form(request.protocol)), tmp_path / "out")
    assert f"{promise}</td>" in (tmp_path / "out" / "report.html").read_text()


def test_no_training_examples_fail(prepared):
    with pytest.raises(ValueError, match="no training examples"):
        check_examples({**prepared[1], "splits": {}})


def test_lists_of_different_lengths_add_up():
    assert add_up([[1, 2], [], [3, 4, 5]]).tolist() == [4, 6, 5]
