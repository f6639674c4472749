"""Times of logs: the units they are written in, and the second and microsecond of each.

Where no unit is named, it is told by the values: each unit puts the times of people's clicks, 1990 to
tomorrow, into a range of its own. A unit that is named is checked the same way, since a wrong one moves
every event to 1970 or to the year 47374 and nothing else in a preparation would notice.
"""

import datetime
import time

import numpy as np
import pandas as pd

SECONDS, MILLISECONDS, MICROSECONDS, NANOSECONDS = "s", "ms", "us", "ns"
ISO = "iso"
DAY, HOUR, SHORT_HOUR = "yyyymmdd", "yyyymmddhh", "yymmddhh"
#: Numbers of a clock that only counts, such as steps; they are taken as seconds, and not checked.
INDEX = "index"
AUTO = "auto"

PER_SECOND = {SECONDS: 1, MILLISECONDS: 10**3, MICROSECONDS: 10**6, NANOSECONDS: 10**9}
_CALENDARS = (DAY, HOUR, SHORT_HOUR)
TIME_UNITS = (AUTO, *PER_SECOND, ISO, *_CALENDARS, INDEX)

_EARLIEST = 631_152_000  # 1990-01-01
_DAY = 86_400
_LATEST = 1 << 62  # seconds beyond this are no time
_MICRO = 1_000_000


def seconds_of(values: pd.Series, unit: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Times as whole seconds and the rest.

    Args:
      values: numbers, or text where the unit is `iso`; datetimes need no unit.
      unit: one of `TIME_UNITS` but `auto`.

    Returns:
      Seconds since 1970, int64, rounded down, for times before it too; microseconds within the second,
      int64; and True for values that are no time. Each is [values].
    """
    if pd.api.types.is_datetime64_any_dtype(values.dtype):
        return _seconds_of_moments(values)
    if unit == ISO:
        text = values.astype(object)
        return _seconds_of_moments(
            pd.to_datetime(text, format="ISO8601", utc=True, errors="coerce")
        )
    numbers = values.to_numpy()
    if unit in _CALENDARS:
        seconds, wrong = _seconds_of_calendar(numbers, unit)
        return seconds, np.zeros(len(seconds), np.int64), wrong
    per_second = PER_SECOND.get(unit, 1)
    with np.errstate(invalid="ignore"):
        whole = numbers if per_second == 1 and numbers.dtype.kind in "iu" else numbers // per_second
        wrong = ~(np.abs(whole) < _LATEST)
    whole = np.where(wrong, 0, whole)
    rest = np.where(wrong, 0, numbers) - whole * per_second
    seconds = whole.astype(np.int64)
    if rest.dtype.kind in "iu":
        return seconds, rest * _MICRO // per_second, wrong
    # A float holds .378 as .37799999: the nearest microsecond, which may be the next second's first.
    micro = np.rint(rest * (_MICRO / per_second)).astype(np.int64)
    return seconds + micro // _MICRO, micro % _MICRO, wrong


def infer_unit(values: pd.Series, place: str) -> str:
    """The unit in which a sample of a column is written.

    Args:
      values: numbers, text or datetimes.
      place: of the column, for the message.

    Raises:
      ValueError: no unit, or several, make dates between 1990 and tomorrow of them.
    """
    if not len(values) or pd.api.types.is_datetime64_any_dtype(values.dtype):
        return SECONDS
    numbers = _numbers(values)
    if not len(numbers):
        if not seconds_of(values, ISO)[2].all():
            return ISO
        raise ValueError(
            f"{place}: expected times as numbers or in ISO 8601 (2019-11-15 10:22:32); got "
            f"{values.iloc[0]!r}. Rewrite the column, or name another one by --time_column."
        )
    units = [
        unit
        for unit in (*PER_SECOND, *_CALENDARS)
        if (unit in PER_SECOND or not seconds_of(numbers, unit)[2].any())
        and _is_plausible(_median(numbers, unit))
    ]
    if len(units) == 1:
        return units[0]
    shown = f"{float(np.median(numbers)):.17g}"
    if units:
        raise ValueError(
            f"{place}: expected times in one unit; got {shown} in the middle of the first ones, which "
            f"may be {' or '.join(units)}. Say which by --time_unit."
        )
    raise ValueError(
        f"{place}: expected times between 1990 and tomorrow, in one of {', '.join(PER_SECOND)} since 1970, "
        f"as {', '.join(_CALENDARS)} or in ISO 8601; got {shown} in the middle of the first ones. Name the "
        f"unit by --time_unit, or give --time_unit={INDEX} for a clock that only counts."
    )


def check_unit(values: pd.Series, unit: str, place: str) -> None:
    """Raises ValueError where the median of a sample is before 1990 or after tomorrow in the unit.

    Args:
      values: numbers, text or datetimes.
      unit: one of `TIME_UNITS` but `auto`; `index` is not checked.
      place: of the column, for the message.
    """
    numeric = not (unit == ISO or pd.api.types.is_datetime64_any_dtype(values.dtype))
    values = _numbers(values) if numeric else values
    if unit == INDEX or not len(values):
        return
    median = _median(values, unit)
    if median is None:
        return  # all are bad rows, which are counted and told when they are read
    if not _is_plausible(median):
        raise ValueError(
            f"{place}: expected times between 1990 and tomorrow; by --time_unit={unit} the median of the "
            f"first ones is {_moment(median)}. Give another --time_unit (without it, it is told by the "
            f"values), or --time_unit={INDEX} for a clock that only counts."
        )


def has_microseconds(unit: str, is_integer: bool) -> bool:
    """True if times of the unit may differ within a second.

    Args:
      unit: one of `TIME_UNITS` but `auto`.
      is_integer: whether the column holds integers.
    """
    if unit in _CALENDARS:
        return False
    return unit not in (SECONDS, INDEX) or not is_integer


def _seconds_of_moments(moments: pd.Series) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    wrong = moments.isna().to_numpy()
    micro = np.where(wrong, 0, moments.to_numpy("datetime64[us]").astype(np.int64))
    return micro // _MICRO, micro % _MICRO, wrong


def _seconds_of_calendar(numbers: np.ndarray, unit: str) -> tuple[np.ndarray, np.ndarray]:
    """Second at which the hours or days begin, UTC, and True for numbers that are none."""
    with np.errstate(invalid="ignore"):
        wrong = ~((numbers >= 0) & (numbers < 10**10) & (numbers == np.floor(numbers)))
    number = np.where(wrong, 0, numbers).astype(np.int64)
    number, hour = (number, np.zeros_like(number)) if unit == DAY else np.divmod(number, 100)
    number, day = np.divmod(number, 100)
    year, month = np.divmod(number, 100)
    if unit == SHORT_HOUR:
        wrong |= year > 99
        year = year + 2000
    wrong |= (month < 1) | (month > 12) | (hour > 23) | (year < 1) | (year > 9999)
    months = ((np.clip(year, 1, 9999) - 1970) * 12 + np.clip(month, 1, 12) - 1).astype(
        "datetime64[M]"
    )
    days = months.astype("datetime64[D]") + (day - 1)
    wrong |= days.astype("datetime64[M]") != months  # no such day in this month
    return np.where(wrong, 0, days.astype(np.int64) * _DAY + hour * 3_600), wrong


def _numbers(values: pd.Series) -> pd.Series:
    """The finite numbers of a column of numbers or text, integers where all are."""
    numbers = pd.to_numeric(values, errors="coerce").dropna()
    return numbers[np.isfinite(numbers.to_numpy(np.float64))]


def _median(values: pd.Series, unit: str) -> float | None:
    """Median second of the values that are times; None where none is."""
    seconds, _, wrong = seconds_of(values, unit)
    return None if wrong.all() else float(np.median(seconds[~wrong]))


def _is_plausible(seconds: float | None) -> bool:
    return seconds is not None and _EARLIEST <= seconds <= time.time() + _DAY


def _moment(seconds: float) -> str:
    """A second as a date, or, where the calendar ends before it, as its year."""
    try:
        return f"{datetime.datetime.fromtimestamp(seconds, datetime.UTC):%Y-%m-%d %H:%M:%S}"
    except (ValueError, OverflowError, OSError):
        return f"in the year {1970 + round(seconds / (365.2425 * _DAY)):,}"
