"""Proposes a file of columns for a log: `python -m data_prep.infer --input=log.csv --output=columns.yaml`.

Looks at the first rows of the log, and of tables of items and users where there are, says of every column what
it looks like and why, and writes what `data_prep.prepare --columns_file` reads. Read it before it is used: a
sample does not know what a number means.
"""

import os
import pathlib
import re
import sys

from absl import flags

from data_prep.column_inference import Proposal, as_yaml, guess, propose, read_sample
from data_prep.columns import OF_ITEMS, DeclaredColumns, is_name
from dgin_tf.commands import command_line
from dgin_tf.ownership import check_claim
from dgin_tf.schema import USER, write_text

_INPUT = flags.DEFINE_string("input", None, "The log: a table of text or Parquet.", required=True)
_ITEM_TABLE = flags.DEFINE_string("item_table", "", "A table with one line an item.")
_USER_TABLE = flags.DEFINE_string("user_table", "", "A table with one line a user.")
_USER_COLUMN = flags.DEFINE_string("user_column", "", "The user's key; default by its name.")
_ITEM_COLUMN = flags.DEFINE_string("item_column", "", "The item's key; default by its name.")
_SKIP = flags.DEFINE_list(
    "skip",
    [],
    "Columns that have a part already: time, label, request, split, category, behavior; default by their "
    "names.",
)
_ROWS = flags.DEFINE_integer("rows", 20_000, "Rows to look at.", lower_bound=2)
_OUTPUT = flags.DEFINE_string("output", "", "File to write; default the terminal alone.")

_USERS, _ITEMS = ("user", "uid", "member", "customer"), ("item", "sku", "product", "movie", "video")
_PARTS = re.compile(
    "(time|timestamp|ts|date|label|click|clicked|request|request_id|session|split|"
    "category|category_id|behavior|behavior_type)"
)


def proposals_from_flags() -> tuple[dict[str, str], list[Proposal]]:
    """Tables of items and users as the file names them, and proposals for the columns of all tables."""
    log = read_sample(_INPUT.value, _ROWS.value)
    names = [str(name) for name in log.columns]
    user = guess(names, _USER_COLUMN.value, _USERS)
    item = guess(names, _ITEM_COLUMN.value, _ITEMS)
    for name in filter(None, (user, item)):
        if name not in names:
            raise ValueError(f"expected {name!r} among the columns {', '.join(names)}.")
    keys = {name for name in (user, item) if name}
    skip = keys | set(_SKIP.value or (name for name in names if _PARTS.fullmatch(name.lower())))
    proposals = propose(log, "", user, item, skip)
    base = pathlib.Path(_OUTPUT.value).parent.resolve()
    tables = {}
    for key, path, role in (
        ("item_table", _ITEM_TABLE.value, OF_ITEMS),
        ("user_table", _USER_TABLE.value, USER),
    ):
        if path:
            tables[key] = os.path.relpath(path, base)
            proposals += propose(read_sample(path, _ROWS.value), role, None, None, skip)
    if "user_table" in tables:  # users have one table
        in_log = [n for n, p in enumerate(proposals[: len(names)]) if p.role == USER]
        for number in in_log:
            reason = f"{proposals[number].reason}; columns of users are those of the user table"
            proposals[number] = Proposal(proposals[number].name, "", "", reason)
    return tables, proposals


def field_names(proposals: list[Proposal]) -> dict[str, str]:
    """Column -> name in the file: small letters, digits and underscores, each once."""
    names: dict[str, str] = {}
    for proposal in proposals:
        name = re.sub("[^a-z0-9_]+", "_", proposal.name.lower()).strip("_") or "column"
        name = name if name[0].isalpha() else f"c_{name}"
        while name in names.values():
            name += "_2"
        names[proposal.name] = name if is_name(name, proposal.role) else f"c_{name}"
    return names


def main(_: object) -> None:
    """Writes the proposal, or prints it."""
    output = _OUTPUT.value
    if output:
        # Edited by hand, so that not even a file of this command is written over.
        if os.path.lexists(output):
            raise ValueError(f"{output} is there already; delete it, or give another --output.")
        check_claim(pathlib.Path(output).parent, "columns of a log", [])
    tables, proposals = proposals_from_flags()
    text = as_yaml(tables, proposals, field_names([p for p in proposals if p.kind]))
    sys.stdout.write(text)
    if output:
        write_text(pathlib.Path(output), text)
        DeclaredColumns.load(output)  # what is proposed can be read


if __name__ == "__main__":
    command_line.run(main)
