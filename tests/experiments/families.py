"""A tiny log of every family of data, with and without behavior types, and the flags that it is read with."""

import dataclasses
import json
import pathlib

from data_prep.readers.taobao import BEHAVIORS
from tests.data_prep import logs

_MOVIELENS_SECONDS = 978_300_000


@dataclasses.dataclass(frozen=True)
class Family:
    """A log on disk.

    Attributes:
      dataset: as `--dataset` names it.
      flags: what `data_prep.prepare` and `data_prep.make_events` read it with.
      has_types: whether its events have behavior types.
    """

    dataset: str
    flags: tuple[str, ...]
    has_types: bool


def taobao(folder: pathlib.Path, rows, has_types: bool) -> Family:
    path = folder / "UserBehavior.csv"
    path.write_bytes(logs.text_of(rows))
    types = () if has_types else ("--behavior_types=pv",)
    return Family("taobao", (f"--input={path}", *types), has_types)


def movielens(folder: pathlib.Path, rows, has_types: bool) -> Family:
    ratings = [(u, i, 1 + BEHAVIORS.index(b), t) for u, i, _, b, t in rows]
    (folder / "ratings.dat").write_text("".join("::".join(map(str, r)) + "\n" for r in ratings))
    movies = {i: f"{i}::Movie {i}::{c}|Other\n" for _, i, c, _, _ in rows}
    (folder / "movies.dat").write_text("".join(movies.values()))
    users = {u: f"{u}::{'MF'[u % 2]}::25::4::0{u}\n" for u, *_ in rows}
    (folder / "users.dat").write_text("".join(users.values()))
    types = ("--like_rating=3",) if has_types else ()
    return Family("movielens", (f"--input={folder}", *types), has_types)


def amazon(folder: pathlib.Path, rows, has_types: bool) -> Family:
    assert not has_types
    reviews = [
        {"reviewerID": f"A{u}", "asin": f"B{i}", "overall": 5.0, "unixReviewTime": t}
        for u, i, _, _, t in rows
    ]
    metas = {i: {"asin": f"B{i}", "category": ["All", f"shelf {c}"]} for _, i, c, _, _ in rows}
    for name, lines in (("Toys_5.json", reviews), ("meta_Toys.json", metas.values())):
        (folder / name).write_text("".join(json.dumps(line) + "\n" for line in lines))
    return Family("amazon", (f"--input={folder / 'Toys_5.json'}",), False)


def table(folder: pathlib.Path, rows, has_types: bool) -> Family:
    header = "who,what,shelf,did,at,dwell,city\n"
    lines = [
        f"u{u},sku {i},{c},{b},{t},{i / 8 if i % 3 else ''},{'Köln' if u % 2 else ''}\n"
        for u, i, c, b, t in rows
    ]
    (folder / "events.csv").write_text(header + "".join(lines), encoding="utf-8")
    types = ("--behavior_column=did", f"--behavior_names={','.join(BEHAVIORS)}")
    columns = (
        "--user_column=who",
        "--item_column=what",
        "--time_column=at",
        "--category_column=shelf",
        "--numeric_columns=dwell=dwell",
        "--side_feature_columns=location=city",
    )
    more = types if has_types else ()
    return Family("table", (f"--input={folder / 'events.csv'}", *columns, *more), has_types)


MAKERS = {
    "taobao": (taobao, True),
    "taobao-clicks": (taobao, False),
    "movielens": (movielens, False),
    "movielens-likes": (movielens, True),
    "amazon": (amazon, False),
    "table": (table, False),
    "table-types": (table, True),
}


def write_family(name: str, folder: pathlib.Path) -> Family:
    """Writes the log of a family; it has about eleven events a user."""
    maker, has_types = MAKERS[name]
    folder.mkdir(parents=True)
    return maker(folder, logs.rows_of(users=19, events=11, items=23), has_types)
