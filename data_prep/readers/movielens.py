"""MovieLens, in all of its layouts, plain or compressed.

- 100k: `u.data` `user, movie, rating, timestamp` between tabs, `u.item` `movie|title|date|date|url|19 flags of
  genres` and `u.user` `user|age|gender|occupation|zip`; no header, Latin-1.
- `.dat` (1M, 10M): `ratings.dat` `user::movie::rating::timestamp`, `movies.dat` `movie::title::genres`
  and, with 1M, `users.dat` `user::gender::age::occupation::zip`; no header, Latin-1.
- `.csv` (20M, 25M, 32M, latest): `ratings.csv` `userId,movieId,rating,timestamp` and `movies.csv`
  `movieId,title,genres`, with a header, UTF-8.

A rating is an event, its movie the item, the movie's first genre the category; a movie without
genres, or without a line in the movies file, has the category unknown. Gender, age and occupation are
the profile. With `like_rating` there are two behavior types, like and dislike; with `genres=all` a movie
has all its genres as a multi-valued column besides.
"""

import dataclasses
import functools
import os
import re
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import pandas as pd

from data_prep.columns import MULTI_VALUED, OF_ITEMS, Column, DeclaredColumns
from data_prep.events import (
    BEHAVIOR,
    CATEGORY,
    ITEM,
    MISSING_NAME,
    TIME,
    USER,
    Chunk,
    bad_rows,
    make_chunk,
)
from data_prep.readers.base import Piece, Reader, file_pieces
from data_prep.readers.cells import DECIMAL, INTEGER, SIDE_FEATURE, WORD
from data_prep.readers.parsers import Delimited
from data_prep.readers.rows import Rows, check_layout, first_lines, header_cells, read_rows
from data_prep.readers.side_files import (
    bare_name,
    beside,
    in_folders,
    number_option,
    text_option,
    the_only,
)
from data_prep.readers.side_table import CategoryTable

RATING = "rating"
TITLE, GENRES = "title", "genres"
PROFILE = ("user_gender", "user_age", "user_occupation")

BEHAVIORS = ("like", "dislike")

FIRST_GENRE, ALL_GENRES = GENRE_CHOICES = ("first", "all")

_NO_GENRES = "(no genres listed)"
_MOST_GENRES = 10  # of one movie, in all releases


@dataclasses.dataclass(frozen=True)
class _Layout:
    """Layout of one generation of MovieLens files.

    Attributes:
      ratings, movies: their lines.
      header, movies_header: the first line of each; empty where there is none.
    """

    ratings: Delimited
    movies: Delimited
    header: str = ""
    movies_header: str = ""


_RATING_TYPES = {USER: INTEGER, ITEM: INTEGER, RATING: DECIMAL, TIME: INTEGER}
_MOVIE_TYPES = {ITEM: INTEGER, TITLE: SIDE_FEATURE, GENRES: WORD}
_FLAGS_100K = (
    *(
        "unknown",
        "Action",
        "Adventure",
        "Animation",
        "Children's",
        "Comedy",
        "Crime",
        "Documentary",
    ),
    *("Drama", "Fantasy", "Film-Noir", "Horror", "Musical", "Mystery", "Romance", "Sci-Fi"),
    *("Thriller", "War", "Western"),
)
_LAYOUTS = {
    "100k": _Layout(
        Delimited((USER, ITEM, RATING, TIME), _RATING_TYPES, "\t"),
        Delimited(
            (ITEM, TITLE, "date", "video_date", "url", *_FLAGS_100K),
            {ITEM: INTEGER, TITLE: SIDE_FEATURE, **dict.fromkeys(_FLAGS_100K, ("0", "1"))},
            "|",
            encoding="latin-1",
        ),
    ),
    "dat": _Layout(
        Delimited((USER, ITEM, RATING, TIME), _RATING_TYPES, "::"),
        Delimited((ITEM, TITLE, GENRES), _MOVIE_TYPES, "::", encoding="latin-1"),
    ),
    "csv": _Layout(
        Delimited((USER, ITEM, RATING, TIME), _RATING_TYPES),
        Delimited((ITEM, TITLE, GENRES), _MOVIE_TYPES, quotes=True),
        "userId,movieId,rating,timestamp",
        "movieId,title,genres",
    ),
}
_USERS = Delimited(
    (USER, *PROFILE, "zip"),
    {USER: INTEGER, **dict.fromkeys(PROFILE, WORD)},
    "::",
    encoding="latin-1",
)


_USERS_100K = Delimited(
    (USER, "user_age", "user_gender", "user_occupation", "zip"),
    _USERS.types,
    "|",
    encoding="latin-1",
)


class MovieLensReader(Reader):
    """Reads ratings with the movies (and users) file beside them; the input may be their folder.

    Options: `movies` and `users`, the side files, whatever they are called; `min_rating`, the lowest rating that is an event (4 for positives only; all if None), and
    `like_rating`: with it ratings from it on are of type like, those below of type dislike.
    """

    where_to_get_it = (
        "Expected ratings.dat or ratings.csv of MovieLens, with movies.dat or movies.csv beside it; get "
        "ml-1m.zip or ml-32m.zip from https://grouplens.org/datasets/movielens/, unpack it, and pass "
        "the folder as --input (it is never downloaded for you)."
    )
    official_counts = {
        "MovieLens-1M": {"events": 1_000_209, "users": 6_040, "items": 3_706},
        "MovieLens-20M": {"events": 20_000_263, "users": 138_493, "items": 26_744},
        "MovieLens-25M": {"events": 25_000_095, "users": 162_541, "items": 59_047},
        "MovieLens-32M": {"events": 32_000_204, "users": 200_948},
    }

    def __init__(self, paths: Sequence[str], options: Mapping[str, object]):
        super().__init__(_ratings_files(paths, self.where_to_get_it), options)
        self._movies = self._side_file(paths, "movies", r"movies\.(dat|csv)|u\.item")
        self._users = self._side_file(paths, "users", r"users\.dat|u\.user", optional=True)
        self.profile_fields = PROFILE if self._users else ()
        self._min_rating = number_option(options, "min_rating")
        self._like_rating = number_option(options, "like_rating")
        self.behavior_types = () if self._like_rating is None else BEHAVIORS
        if (genres := text_option(options, "genres", FIRST_GENRE)) not in GENRE_CHOICES:
            raise ValueError(f"expected genres to be one of {GENRE_CHOICES}; got {genres!r}.")
        if genres == ALL_GENRES:
            column = Column(GENRES, OF_ITEMS, MULTI_VALUED, GENRES, "|", _MOST_GENRES)
            self.declared = DeclaredColumns((column,), item_table=self._movies)

    def _side_file(
        self, paths: Sequence[str], option: str, pattern: str, optional: bool = False
    ) -> str:
        """The side file by option, among the input files or beside the ratings; empty where there is none."""
        if named := text_option(self.options, option):
            if not os.path.isfile(named):
                raise FileNotFoundError(f"no file {named!r}; check --{option}.")
            return named
        files = [path for path in in_folders(paths) if re.fullmatch(pattern, bare_name(path))]
        files = files or beside(self.paths[0], pattern)
        if files:
            return the_only(files, f"file like {pattern}")
        if not optional:
            raise FileNotFoundError(
                f"expected movies.dat or movies.csv, which holds the genres, beside {self.paths[0]!r}; "
                f"found none (--movies=FILE names one). {self.where_to_get_it}"
            )
        return ""

    def files(self) -> tuple[str, ...]:
        return (*self.paths, self._movies, *([self._users] if self._users else []))

    def pieces(self) -> list[Piece]:
        for path in self.paths:
            layout = _layout_of(path)
            line = layout.ratings.separator.join(("user", "movie", "rating", "timestamp"))
            _check(path, layout.ratings, layout.header, line)
        layout = _layout_of(self._movies)
        _check(self._movies, layout.movies, layout.movies_header, "movie::title::genres")
        if self._users:
            users = _users_of(self._users)
            _check(self._users, users, "", users.separator.join(users.columns))
        return [piece for path in self.files() for piece in file_pieces(path)]

    def read(self, piece: Piece) -> Iterator[Chunk]:
        """Yields the ratings of a piece; pieces of side files hold no events, only their bad rows."""
        if piece.path not in self.paths:
            for rows in self._side_rows(piece):
                nothing = pd.DataFrame({USER: [], ITEM: [], TIME: []}, dtype=np.int64)
                yield self._chunk(nothing, rows)
            return
        layout = _layout_of(piece.path)
        for rows in read_rows(piece, layout.ratings, header=bool(layout.header)):
            for name in (USER, ITEM):
                rows = rows.reject(rows.table[name].to_numpy() < 0, f"negative {name}")
            if self._min_rating is not None:
                rows = rows.keep(rows.table[RATING].to_numpy() >= self._min_rating)
            # Behavior types by number: 0 like, 1 dislike.
            events = rows.table
            if self._like_rating is not None:
                events = events.assign(**{BEHAVIOR: events[RATING] < self._like_rating})
            yield self._chunk(events, rows)

    def profiles(self) -> pd.DataFrame:
        if not self._users:
            return super().profiles()
        tables = [
            rows.table for piece in file_pieces(self._users) for rows in self._side_rows(piece)
        ]
        empty = pd.DataFrame({USER: np.zeros(0, np.int64), **{name: [] for name in PROFILE}})
        # A user that occurs twice has the profile of the first line.
        return pd.concat(tables or [empty], ignore_index=True).drop_duplicates(USER)

    def item_attributes(self) -> Iterator[tuple[np.ndarray, pd.DataFrame]]:
        for piece in file_pieces(self._movies) if self.declared.of_items else ():
            for rows in self._side_rows(piece):
                genres = rows.table[[GENRES]].replace(_NO_GENRES, MISSING_NAME)
                yield rows.table[ITEM].to_numpy(), genres

    def titles(self) -> pd.DataFrame:
        pieces = file_pieces(self._movies)
        tables = [rows.table for piece in pieces for rows in self._side_rows(piece)]
        return pd.concat([super().titles(), *(table[[ITEM, TITLE]] for table in tables)])

    def _side_rows(self, piece: Piece) -> Iterator[Rows]:
        if piece.path == self._users:
            return read_rows(piece, _users_of(piece.path))
        layout = _layout_of(piece.path)
        movies = layout.movies
        if _is_utf8(piece.path):  # 10M's, unlike those of 100k and 1M
            movies = dataclasses.replace(movies, encoding="utf-8")
        return read_rows(piece, movies, header=bool(layout.movies_header))

    @functools.cached_property
    def _genres(self) -> CategoryTable:
        def parts() -> Iterator[tuple[np.ndarray, pd.Series]]:
            for piece in file_pieces(self._movies):
                for rows in self._side_rows(piece):
                    if GENRES in rows.table:
                        # The first of the genres, which bars separate.
                        genre = rows.table[GENRES].astype(object).str.split("|").str[0]
                    else:
                        flags = rows.table[list(_FLAGS_100K)].to_numpy()
                        names = np.array((MISSING_NAME, *_FLAGS_100K[1:]), object)
                        genre = pd.Series(names[flags.argmax(axis=1)], rows.table.index, object)
                    yield rows.table[ITEM].to_numpy(), genre.replace(_NO_GENRES, MISSING_NAME)

        return CategoryTable.build(parts())

    def _chunk(self, events: pd.DataFrame, rows: Rows) -> Chunk:
        chunk = make_chunk(events, rows.lines, bad_rows(rows.bad))
        names = self._genres.names
        return dataclasses.replace(
            chunk,
            columns={**chunk.columns, CATEGORY: self._genres.find(chunk.columns[ITEM])},
            names={} if names is None else {CATEGORY: names},
        )


def _layout_of(path: str) -> _Layout:
    """Layout of ratings or movies: by the ending of the name, else by the first line."""
    name = bare_name(path)
    if name.endswith((".csv", ".dat")):
        return _LAYOUTS[name[-3:]]
    line = b"".join(first_lines(path, 1))
    if line.startswith((b"userId,", b"movieId,")):
        return _LAYOUTS["csv"]
    return _LAYOUTS["dat" if b"::" in line else "100k"]


def _is_utf8(path: str) -> bool:
    """True where the first megabyte of a file has letters beyond ASCII, in UTF-8."""
    text = b"\n".join(first_lines(path, 1 << 20))
    try:
        text.decode()
    except UnicodeDecodeError:
        return False
    return not text.isascii()


def _users_of(path: str) -> Delimited:
    """Layout of users; a name may end as it likes."""
    return _USERS if b"::" in b"".join(first_lines(path, 1)) else _USERS_100K


def _check(path: str, parser: Delimited, header: str, line: str) -> None:
    """Raises ValueError unless the file begins with its header or, without one, with such lines."""
    if not header:
        check_layout(path, parser, f"lines {line}")
        return
    cells = header_cells(path, ",")
    if cells and cells != header.split(","):
        raise ValueError(
            f"{path}: expected the first line {header!r}; got {','.join(cells)[:200]!r}."
        )


def _ratings_files(paths: Sequence[str], where_to_get_it: str) -> list[str]:
    """The ratings file of each folder, and every input file that is no side file."""
    files = []
    for path in paths:
        if os.path.isdir(path):
            inside = beside(os.path.join(path, "ratings"), r"ratings.*\.(dat|csv)|u\.data")
            if not inside:
                raise FileNotFoundError(f"no ratings file in {path!r}. {where_to_get_it}")
            files.append(the_only(inside, "ratings file"))
        elif not re.match("(movies|users)\\.|u\\.(item|user)$", bare_name(path)):
            files.append(path)
    return files
