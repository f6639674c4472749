"""MovieLens in both layouts: what is an event, where the side files are found, what is refused."""

import gzip
import hashlib
import io
import lzma
import pathlib
import tempfile

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_prep.events import CATEGORY, ITEM, MISSING, TIME, USER
from data_prep.readers import READERS
from data_prep.readers.base import Piece
from data_prep.readers.movielens import MovieLensReader
from tests.data_prep.readers.reading import (
    SECONDS,
    as_rows,
    assert_every_line_is_accounted_for,
    damage,
    damaged,
    read_all,
    read_or_refused,
    sample,
)

MOVIES = (
    "1::Toy Story (1995)::Animation|Children's|Comedy\n"
    "2::Am\xe9lie (2001)::Drama\n"
    "17::Sense and Sensibility (1995)::Drama|Romance\n"
)
USERS = "3::F::25::15::55117\n5::M::1::10::48067\n"
RATINGS = "3::1::5::978300760\n5::17::3::978300761\n3::99::4::978300762\n"


def dat_folder(folder, ratings=RATINGS):
    (folder / "ratings.dat").write_text(ratings)
    (folder / "movies.dat").write_bytes(MOVIES.encode("latin-1"))
    (folder / "users.dat").write_text(USERS)
    return str(folder)


def csv_folder(folder):
    (folder / "ratings.csv").write_text(
        "userId,movieId,rating,timestamp\n3,1,4.5,978300760\n5,8,3.5,978300761\n"
    )
    (folder / "movies.csv").write_text(
        'movieId,title,genres\n1,"American President, The (1995)",Comedy|Drama\n'
        "8,Nothing (2000),(no genres listed)\n",
        encoding="utf-8",
    )
    return str(folder)


def test_dat_ratings_are_events_with_the_first_genre(tmp_path):
    log = read_all(MovieLensReader([dat_folder(tmp_path)], {}))
    assert as_rows(log, USER, ITEM, CATEGORY, TIME) == [
        (3, 1, "Animation", 978300760),
        (5, 17, "Drama", 978300761),
        (3, 99, "", 978300762),
    ]
    assert log.events[CATEGORY][2] == MISSING


def test_csv_ratings_are_events_with_the_first_genre(tmp_path):
    log = read_all(MovieLensReader([csv_folder(tmp_path)], {}))
    expected = [(3, 1, "Comedy", 978300760), (5, 8, "", 978300761)]
    assert as_rows(log, USER, ITEM, CATEGORY, TIME) == expected


def test_ratings_below_the_threshold_are_neither_events_nor_bad(tmp_path):
    log = read_all(MovieLensReader([dat_folder(tmp_path)], {"min_rating": 4}))
    assert log.events[ITEM].tolist() == [1, 99]
    assert (len(log.bad), log.lines[str(tmp_path / "ratings.dat")]) == (0, 3)


def test_profiles_are_words(tmp_path):
    reader = MovieLensReader([dat_folder(tmp_path)], {})
    assert reader.profile_fields == ("user_gender", "user_age", "user_occupation")
    profiles = reader.profiles()
    assert profiles[USER].tolist() == [3, 5]
    assert profiles[list(reader.profile_fields)].to_numpy().tolist() == [
        ["F", "25", "15"],
        ["M", "1", "10"],
    ]


def test_movies_have_titles_in_both_layouts(tmp_path):
    known = {1: "American President, The (1995)", 8: "Nothing (2000)"}
    titles = MovieLensReader([csv_folder(tmp_path)], {}).titles()
    assert dict(zip(titles["item_id"], titles["title"], strict=True)) == known
    (tmp_path / "dat").mkdir()
    titles = MovieLensReader([dat_folder(tmp_path / "dat")], {}).titles()
    assert dict(zip(titles["item_id"], titles["title"], strict=True))[2] == "Am\xe9lie (2001)"


def test_the_csv_layout_has_no_profiles(tmp_path):
    reader = MovieLensReader([csv_folder(tmp_path)], {})
    assert reader.profile_fields == ()
    assert reader.profiles().empty


@pytest.mark.parametrize(("ending", "pack"), [(".gz", gzip.compress), (".xz", lzma.compress)])
def test_packed_files_read_as_plain_ones(tmp_path, ending, pack):
    plain, packed = tmp_path / "plain", tmp_path / "packed"
    plain.mkdir()
    packed.mkdir()
    dat_folder(plain)
    for path in plain.iterdir():
        (packed / (path.name + ending)).write_bytes(pack(path.read_bytes()))
    one, other = (read_all(MovieLensReader([str(folder)], {})) for folder in (plain, packed))
    pd.testing.assert_frame_equal(one.events, other.events)


def test_side_files_may_be_named_wherever_they_are(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    dat_folder(tmp_path / "a")
    ratings = tmp_path / "b" / "positives.dat"
    ratings.write_text(RATINGS)
    reader = MovieLensReader([str(ratings), str(tmp_path / "a" / "movies.dat")], {})
    assert reader.paths == (str(ratings),)
    assert reader.files() == (str(ratings), str(tmp_path / "a" / "movies.dat"))
    assert len(read_all(reader).events) == 3


def test_bad_lines_of_all_files_are_quarantined(tmp_path):
    dat_folder(tmp_path, RATINGS + "3::1::five::978300763\n-3::1::5::978300763\n\n3::1::5::9783")
    (tmp_path / "movies.dat").write_text(MOVIES + "3::no genres\n", encoding="latin-1")
    log = read_all(MovieLensReader([str(tmp_path)], {}))
    names = [pathlib.Path(path).name for path in log.bad["path"]]
    found = list(zip(names, log.bad["line"], log.bad["reason"], strict=True))
    assert found == [
        ("ratings.dat", 3, "rating 'five' is no decimal"),
        ("ratings.dat", 4, "negative user_id"),
        ("ratings.dat", 5, "empty line"),
        ("movies.dat", 3, "expected 3 columns, got 2"),
    ]
    assert len(log.events) == 4  # a last line without its end may be whole


def test_missing_files_are_named_with_where_to_get_them(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no ratings file in .*grouplens\.org"):
        MovieLensReader([str(tmp_path)], {})
    with pytest.raises(FileNotFoundError, match=r"ratings\.dat.*grouplens\.org"):
        MovieLensReader([str(tmp_path / "ratings.dat")], {})
    (tmp_path / "ratings.dat").write_text(RATINGS)
    with pytest.raises(FileNotFoundError, match=r"expected movies\.dat or movies\.csv"):
        MovieLensReader([str(tmp_path)], {})


def test_a_folder_with_two_ratings_files_asks_for_one(tmp_path):
    dat_folder(tmp_path)
    (tmp_path / "ratings_new.dat").write_text(RATINGS)
    with pytest.raises(ValueError, match=r"ratings\.dat, ratings_new\.dat; name the one"):
        MovieLensReader([str(tmp_path)], {})


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("ratings.dat", "userId,movieId,rating,timestamp\n3,1,5,9\n", "user::movie::rating"),
        ("ratings.csv", "3,1,4.5,978300760\n", "the first line 'userId,movieId,rating,timestamp'"),
        ("movies.dat", "1,Toy Story,Comedy\n", "movie::title::genres"),
        ("users.dat", "1|F\n", "user::gender::age"),
    ],
)
def test_another_layout_is_an_error_that_shows_the_first_line(tmp_path, name, content, expected):
    (csv_folder if name == "ratings.csv" else dat_folder)(tmp_path)
    (tmp_path / name).write_text(content)
    first = content.split("\n")[0]
    with pytest.raises(ValueError, match=rf"{name}.*expected.*{expected}.*got.*{first[:5]}"):
        MovieLensReader([str(tmp_path)], {}).pieces()


def test_an_archive_that_ends_early_is_an_error(tmp_path):
    dat_folder(tmp_path, RATINGS * 999)
    packed = lzma.compress((tmp_path / "ratings.dat").read_bytes())
    (tmp_path / "ratings.dat").unlink()
    (tmp_path / "ratings.dat.xz").write_bytes(packed[: len(packed) // 2])
    with pytest.raises(ValueError, match="no complete compressed file"):
        read_all(MovieLensReader([str(tmp_path)], {}))


def test_an_empty_ratings_file_gives_no_events(tmp_path):
    assert read_all(MovieLensReader([dat_folder(tmp_path, "")], {})).events.empty


def test_a_threshold_that_is_no_number_is_refused(tmp_path):
    with pytest.raises(ValueError, match="min_rating to be a number"):
        MovieLensReader([dat_folder(tmp_path)], {"min_rating": "4"})


RATING_ROWS = st.lists(
    st.tuples(
        st.integers(1, 2**62), st.integers(1, 30), st.sampled_from([0.5, 3.0, 4.5, 5.0]), SECONDS
    ),
    min_size=1,
    max_size=19,
)


@settings(max_examples=25, deadline=None)
@given(RATING_ROWS, st.integers(1, 60))
def test_ratings_come_back_whatever_the_pieces(rows, piece_bytes):
    with tempfile.TemporaryDirectory() as folder:
        dat_folder(pathlib.Path(folder), "".join(f"{u}::{i}::{r}::{t}\n" for u, i, r, t in rows))
        reader = MovieLensReader([folder], {})
        (path,) = reader.paths
        size = pathlib.Path(path).stat().st_size
        pieces = [
            Piece(path, start, min(start + piece_bytes, size))
            for start in range(0, size, piece_bytes)
        ]
        events = [chunk.columns for piece in pieces for chunk in reader.read(piece)]
    found = [
        tuple(map(int, row))
        for columns in events
        for row in zip(*(columns[name] for name in (USER, ITEM, TIME)), strict=True)
    ]
    assert found == [(user, item, second) for user, item, _, second in rows]


@settings(max_examples=40, deadline=None)
@given(RATING_ROWS, damage())
def test_damage_gives_clean_errors_and_loses_no_line(rows, changes):
    text = "".join(f"{u}::{i}::{r}::{t}\n" for u, i, r, t in rows)
    with tempfile.TemporaryDirectory() as folder:
        dat_folder(pathlib.Path(folder))
        path = pathlib.Path(folder) / "ratings.dat"
        path.write_bytes(damaged(text.encode(), changes))
        log = read_or_refused(
            lambda: read_all(MovieLensReader([folder], {})), "expected lines user::movie"
        )
        if log is not None:
            assert_every_line_is_accounted_for(log, str(path))


def test_movielens_1m_has_the_known_counts():
    ratings, _ = sample("ml-1m-partial/ratings_ge4_all_users.dat.xz", "ml-1m-partial/movies.dat.xz")
    reader = READERS["movielens"]([ratings], {})
    log = read_all(reader)
    assert len(log.events) == 426_049
    assert log.events[[USER, ITEM, CATEGORY]].nunique().tolist() == [4_487, 3_483, 18]
    assert (log.events[CATEGORY] != MISSING).all()
    assert log.bad.empty
    assert set(log.events[USER]) <= set(reader.profiles()[USER])


def test_all_ratings_above_the_threshold_are_those_of_the_file_of_positives():
    paths = sample(
        "ml-1m-partial/ratings_whole_users.dat.xz", "ml-1m-partial/ratings_ge4_all_users.dat.xz"
    )
    whole = read_all(MovieLensReader(paths[:1], {}))
    assert (len(whole.events), whole.events[ITEM].nunique()) == (72_262, 3_163)
    chosen = read_all(MovieLensReader(paths[:1], {"min_rating": 4})).events[[USER, ITEM, TIME]]
    positives = read_all(MovieLensReader(paths[1:], {})).events[[USER, ITEM, TIME]]
    assert len(chosen.merge(positives)) == len(chosen) > 0


def test_reference_examples_follow_from_the_events():
    ratings, examples = sample(
        "ml-1m-partial/ratings_ge4_all_users.dat.xz", "ml-1m-partial/reference_examples.csv.xz"
    )
    events = read_all(MovieLensReader([ratings], {})).events.sort_values([USER, TIME, ITEM])
    events["position"] = events.groupby(USER).cumcount()
    text = lzma.decompress(pathlib.Path(examples).read_bytes())
    assert hashlib.sha256(text).hexdigest().startswith("eafdaaa8721b675e")
    targets = pd.read_csv(io.BytesIO(text))
    found = targets.merge(
        events, left_on=["user_id", "position"], right_on=[USER, "position"], how="left"
    )
    np.testing.assert_array_equal(found[ITEM], found["positive"])
    np.testing.assert_array_equal(found["timestamp_x"], found["timestamp_y"])


def test_movielens_latest_has_the_known_counts():
    (folder,) = sample("ml-latest-small-2016")
    log = read_all(MovieLensReader([folder], {}))
    assert len(log.events) == 100_004
    assert log.events[[USER, ITEM]].nunique().tolist() == [671, 9_066]
    assert log.bad.empty


@pytest.mark.parametrize("encoding", ["latin-1", "utf-8"])
def test_titles_are_of_the_encoding_of_their_file(tmp_path, encoding):
    dat_folder(tmp_path)
    (tmp_path / "movies.dat").write_bytes(MOVIES.encode(encoding))
    assert "Am\xe9lie (2001)" in MovieLensReader([str(tmp_path)], {}).titles()["title"].tolist()
