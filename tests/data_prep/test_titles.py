"""Titles of items lie beside the vocabulary, in its order."""

from data_prep.engines.local import LocalEngine
from data_prep.pipeline import Preparation, prepare, work_folder
from data_prep.protocol import Protocol
from data_prep.readers.movielens import MovieLensReader


def test_titles_are_in_the_order_of_the_ids_and_empty_where_there_are_none(tmp_path):
    ratings = "".join(
        f"{user}::{item}::5::{978300760 + 10 * item + user}\n"
        for user in range(1, 41)
        for item in range(1, 9)
        if (user + item) % 3
    )
    (tmp_path / "ratings.dat").write_text(ratings)
    movies = "".join(f"{item}::Movie {item}::Drama\n" for item in range(1, 8))  # none of item 8
    (tmp_path / "movies.dat").write_text(movies)
    engine = LocalEngine(work_folder(tmp_path / "D"), progress=False)
    preparation = Preparation(MovieLensReader([str(tmp_path)], {}), Protocol())
    prepare(preparation, str(tmp_path / "D"), engine)
    folder = tmp_path / "D" / "vocabulary"
    raw = (folder / "item_id.txt").read_text().split()
    titles = (folder / "item_id.titles.txt").read_text().removesuffix("\n").split("\n")
    assert titles == [f"Movie {item}" if item != "8" else "" for item in raw]
    assert "8" in raw
