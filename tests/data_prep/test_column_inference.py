"""What a log's columns look like, and the file of columns that is proposed for them."""

import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

from data_prep.column_inference import propose, read_sample
from data_prep.columns import DeclaredColumns
from tests.data_prep.column_logs import write_log


def kinds(**columns):
    """Column -> (role, kind) of a log of columns beside a user."""
    rows = max(map(len, columns.values()))
    users = [str(n // 5) for n in range(rows)]
    table = pd.DataFrame({"user": users, **columns}).astype(str).astype(object)
    found = propose(table, "", "user", None, {"user"})
    return {p.name: (p.role, p.kind) for p in found if p.name != "user"}


def test_kinds_follow_the_cells():
    random = np.random.default_rng(0)
    found = kinds(
        hour=random.integers(0, 24, 500),
        shop_id=random.integers(0, 400, 500),
        price=np.round(random.lognormal(2, 2, 500), 2),
        height=np.round(random.normal(170, 10, 500), 1),
        device=random.choice(["ios", "web"], 500),
        tags=random.choice(["a|b", "b|c|a", "c"], 500),
        note=[
            f"{n} is a long text that nobody will ever write again, whatever {n}"
            for n in range(500)
        ],
        same=["x"] * 500,
    )
    assert {name: kind for name, (_, kind) in found.items()} == {
        "hour": "categorical",
        "shop_id": "categorical",
        "price": "bucketed",
        "height": "standardized",
        "device": "categorical",
        "tags": "multi_valued",
        "note": "",
        "same": "",
    }


def test_what_agrees_within_users_is_theirs_even_with_gaps():
    town = np.repeat(["Bern", "Rome", "Oslo", "Bern"], 5)
    town[7] = ""
    found = kinds(town=town, hour=np.arange(20) % 7)
    assert found == {"town": ("user", "categorical"), "hour": ("context", "categorical")}


def test_lists_of_parquet_need_no_separator(tmp_path):
    path = tmp_path / "items.parquet"
    pd.DataFrame({"tags": [["a", "b"], None, ["c d"]]}).to_parquet(path)
    (proposal,) = propose(read_sample(str(path), 10), "item", None, None, ())
    assert (proposal.kind, dict(proposal.settings)) == ("multi_valued", {"values": 1})


def test_a_proposal_is_a_file_that_can_be_read(tmp_path):
    write_log(tmp_path)
    command = [sys.executable, "-m", "data_prep.infer", f"--input={tmp_path}/log.csv"]
    command += [f"--item_table={tmp_path}/items.csv", f"--output={tmp_path}/proposed.yaml"]
    subprocess.run(command, check=True, capture_output=True)
    declared = DeclaredColumns.load(tmp_path / "proposed.yaml")
    by_name = {column.name: (column.role, column.kind) for column in declared.columns}
    assert by_name["tags"] == ("item", "multi_valued")
    assert by_name["user_age"][0] == "user"
    assert by_name["context_hour"] == ("context", "categorical")
    again = subprocess.run(command, capture_output=True, text=True, check=False)
    assert again.returncode == 2
    assert "is there already" in again.stderr


@pytest.mark.parametrize(("text", "expected"), [("", "first line"), ("a,a\n1,2\n", "different")])
def test_a_table_without_names_or_rows_is_refused(tmp_path, text, expected):
    (tmp_path / "log.csv").write_text(text)
    with pytest.raises(ValueError, match=expected):
        read_sample(str(tmp_path / "log.csv"), 10)
