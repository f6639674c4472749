"""`report.html`: the data card as one page that needs nothing else, drawn with inline SVG."""

import datetime
import html
from collections.abc import Iterable, Sequence

from data_prep.engines.local import Result
from data_prep.events import CATEGORY
from data_prep.protocol import EXAMPLES_FILE, PAPER
from data_prep.stages.leaks import LATE_TRAINING
from dgin_tf.records import SPLITS

_STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem;
  color: #1c2430; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.1rem; margin-top: 2rem; }
table { border-collapse: collapse; margin: .5rem 0; }
td, th { padding: .2rem .8rem .2rem 0; text-align: left; border-bottom: 1px solid #dde3ea;
  vertical-align: top; }
td.number { text-align: right; font-variant-numeric: tabular-nums; }
.good { color: #14713d; } .bad { color: #a3261b; }
.scroll { overflow-x: auto; } h1, p { overflow-wrap: anywhere; }
.charts { display: flex; flex-wrap: wrap; gap: 1.5rem; }
figure { margin: 0; } figcaption { font-size: .85rem; color: #52606f; }
svg text { font: 10px system-ui, sans-serif; fill: #52606f; } svg rect { fill: #3d76b8; }
"""
_WIDTH, _HEIGHT, _MARGIN = 290, 130, 16


def report_page(card: Result) -> str:
    """The data card as an HTML page."""
    sections = (
        ("Input", _inputs(card)),
        ("Rows after every stage", _stages(card)),
        ("Rows in quarantine", _quarantine(card)),
        ("Impressions", _impressions(card)),
        ("Splits", _splits(card)),
        ("Columns", _columns(card)),
        ("History lengths", _length_charts(card)),
        ("Behavior types", _behaviors(card)),
        ("Leak checks", _leaks(card)),
        ("Known public files", _official(card)),
        ("Vocabularies", _table(("vocabulary", "ids"), sorted(card["vocabulary_sizes"].items()))),
        ("Settings", _table(("setting", "value"), sorted(card["settings"].items()))),
    )
    body = "\n".join(f"<h2>{title}</h2>\n{content}" for title, content in sections if content)
    title = f"Data card: {html.escape(', '.join(entry['file'] for entry in card['inputs']))}"
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta name="viewport" content="width=device-width,initial-scale=1"><title>{title}</title>'
        f"<style>{_STYLE}</style></head>\n<body><h1>{title}</h1>\n{body}\n</body></html>\n"
    )


def _inputs(card: Result) -> str:
    rows = [(entry["file"], entry["bytes"], entry["sha256"]) for entry in card["inputs"]]
    return _table(("file", "bytes", "SHA-256"), rows)


def _stages(card: Result) -> str:
    partition, histories, vocabulary = card["partition"], card["histories"], card["vocabulary"]
    examples = card["examples"]
    items = f"{vocabulary['items']:,} items in all"
    if _has_categories(card):
        items += (
            f", {vocabulary['items_with_several_categories']:,} under several categories and "
            f"{vocabulary['items_without_category']:,} under none; "
            f"{vocabulary['unknown_category_events']:,} of all events are of a category that training "
            "does not know"
        )
    without_history = examples.get("targets_without_history", 0)
    without_negative = examples.get("targets_without_negative", 0)
    targets = examples.get("targets", 0)
    rows = [
        (
            "read: lines to events",
            partition["lines"],
            partition["events"],
            f"{partition['bad_rows']:,} bad rows; lines include headers and side files",
        ),
        ("behavior types that are kept", partition["events"], partition["kept_events"], ""),
        (
            "histories: exact duplicates dropped",
            partition["kept_events"],
            histories["events"],
            f"{histories['users']:,} users, {histories['single_event_users']:,} of them with one event, "
            f"longest history {histories['longest']:,}",
        ),
        (
            "vocabulary: training events",
            histories["events"],
            vocabulary["training_events"],
            f"{vocabulary['training_users']:,} training users; {items}",
        ),
        (
            "targets with enough history",
            targets,
            targets - without_history,
            f"{without_history:,} left out",
        ),
        (
            "targets with a negative",
            targets - without_history,
            targets - without_history - without_negative,
            f"{without_negative:,} left out: the user has every item",
        ),
    ]
    return _table(("stage", "before", "after", "remarks"), rows)


def _quarantine(card: Result) -> str:
    reasons = card["partition"]["bad_reasons"]
    return _table(("reason", "rows"), sorted(reasons.items())) if reasons else "<p>None.</p>"


def _impressions(card: Result) -> str:
    """Figures of protocol `impressions`; empty for the others."""
    examples = card["examples"]
    if "impressions" not in examples:
        return ""
    rows = [
        ("impressions", examples["impressions"]),
        ("requests", examples["requests"]),
        ("positive rate", f"{examples['positives'] / max(examples['impressions'], 1):.2%}"),
        ("repetitions of an item in its request", examples["repeated_impressions"]),
        ("of them with another label", examples["contradictory_impressions"]),
    ]
    rows += [(name, examples[name]) for name in (LATE_TRAINING,) if name in examples]
    rows += [
        (f"positive rate, {name}", f"{split['positives'] / split['candidates']:.2%}")
        for name, split in _ordered_splits(card)
    ]
    return _table(("figure", ""), rows)


def _splits(card: Result) -> str:
    rows = [
        (
            name,
            split["users"],
            split["rows"],
            split["candidates"],
            split["positives"],
            split["unknown_positives"],
            split["unknown_categories"] if _has_categories(card) else "",
            round(split["history_events"] / split["rows"], 1),
            _second(split["first_time"]),
            _second(split["last_time"]),
        )
        for name, split in _ordered_splits(card)
    ]
    header = (
        "split",
        "users",
        "history cuts",
        "candidates",
        "positives",
        "of them out of vocabulary",
        "candidates of unknown category",
        "mean history",
        "first target (UTC)",
        "last target (UTC)",
    )
    cuts = card["time_cuts"]
    note = f"<p>Cut at {' and '.join(map(_second, cuts))}.</p>" if cuts else ""
    if card["settings"]["form"] == PAPER and card["settings"]["name"] != EXAMPLES_FILE:
        note += "<p>Paper form: validation is the test split, as in the released code.</p>"
    return _table(header, rows) + note


def _length_charts(card: Result) -> str:
    charts = [
        _bars(
            [_bin_name(number) for number in range(len(split["history_lengths"]))],
            split["history_lengths"],
            f"{name}: history cuts by number of events",
        )
        for name, split in _ordered_splits(card)
    ]
    return f'<div class="charts">{"".join(charts)}</div>'


def _behaviors(card: Result) -> str:
    names, counts = card["behavior_types"], card["histories"]["behaviors"]
    if len(names) < 2:
        return ""
    # Types after the last one that occurs have no count.
    counts = counts + [0] * (len(names) - len(counts))
    total = sum(counts)
    shares = [f"{name} {count / total:.1%}" for name, count in zip(names, counts, strict=True)]
    return _bars(names, counts, "events: " + ", ".join(shares))


def _leaks(card: Result) -> str:
    rows = [
        (name, "passed" if not count else f"{count:,} violations")
        for name, count in sorted(card["leaks"].items())
    ]
    page = _table(("there are no", ""), rows)
    return page.replace("<td>passed</td>", '<td class="good">passed</td>')


def _official(card: Result) -> str:
    rows = []
    for log in card["official"]:
        for column, (official, here) in log["counts"].items():
            rows.append((log["name"], column, official, here, f"{here - official:+,}"))
        verdict = "complete" if log["complete"] else "this is another or a partial file"
        rows.append((log["name"], "verdict", "", "", verdict))
    if not rows:
        return ""
    return _table(("file", "count", "official", "here", "difference"), rows) + (
        "<p>Events are counted before cleaning, users, items and categories after it.</p>"
    )


def _has_categories(card: Result) -> bool:
    return CATEGORY in card["vocabulary_sizes"]


def _columns(card: Result) -> str:
    """Declared columns with roles and shares of missing and unknown values; empty without them."""
    if "columns" not in card:
        return ""
    splits = _ordered_splits(card)
    rows = []
    for name, figures in sorted(card["columns"]["columns"].items()):
        unknown = [
            f"{split['unknown_columns'][name] / split['candidates']:.2%}"
            if name in split["unknown_columns"]
            else ""
            for _, split in splits
        ]
        missing = f"{figures['missing']:.2%}"
        rows.append((name, figures["role"], figures["kind"], missing, *unknown))
    header = (
        "column",
        "role",
        "kind",
        "missing in training",
        *(f"unknown, {n}" for n, _ in splits),
    )
    tables = [
        (f"{table}: {name}", value)
        for table in ("item_table", "user_table")
        for name, value in sorted(card["columns"].get(table, {}).items())
    ]
    return _table(header, rows) + (_table(("figure", ""), tables) if tables else "")


def _ordered_splits(card: Result) -> list[tuple[str, Result]]:
    return [(name, card["splits"][name]) for name in SPLITS if name in card["splits"]]


def _table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    head = "".join(f"<th>{html.escape(name)}</th>" for name in header)
    lines = ["".join(map(_cell, row)) for row in rows]
    body = "\n".join(f"<tr>{line}</tr>" for line in lines)
    return f'<div class="scroll"><table><tr>{head}</tr>\n{body}</table></div>'


def _cell(value: object) -> str:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return f"<td>{html.escape(str(value))}</td>"
    return f'<td class="number">{value:,}</td>'


def _bars(names: Sequence[str], counts: Sequence[int], caption: str) -> str:
    """A bar chart."""
    # Pixels from bar to bar; the tallest bar leaves a margin above and a caption below.
    step = (_WIDTH - 2 * _MARGIN) / max(1, len(counts))
    largest = max(max(counts, default=0), 1)
    bars = []
    for number, (name, count) in enumerate(zip(names, counts, strict=True)):
        height = (_HEIGHT - 3 * _MARGIN) * count / largest
        left, top = _MARGIN + number * step, _HEIGHT - _MARGIN - height
        label = html.escape(name)
        bars.append(
            f'<rect x="{left:.1f}" y="{top:.1f}" width="{step * 0.85:.1f}" height="{height:.1f}">'
            f"<title>{label}: {count:,}</title></rect>"
            f'<text x="{left:.1f}" y="{_HEIGHT - 4}">{label}</text>'
        )
    size = f'width="{_WIDTH}" height="{_HEIGHT}" viewBox="0 0 {_WIDTH} {_HEIGHT}"'
    return (
        f'<figure><svg {size} role="img">{"".join(bars)}</svg>'
        f"<figcaption>{html.escape(caption)}</figcaption></figure>"
    )


def _bin_name(digits: int) -> str:
    """The smallest length that has so many binary digits: 0, 1, 2, 4, ..."""
    # 0 for no digit, then 1, 2, 4, ...
    smallest = 2**digits // 2
    return f"{smallest // 1024}k" if smallest >= 1024 else str(smallest)


def _second(seconds: int) -> str:
    try:
        moment = datetime.datetime(1970, 1, 1) + datetime.timedelta(seconds=seconds)
    except OverflowError:  # a log may count its time in anything
        return str(seconds)
    return moment.strftime("%Y-%m-%d %H:%M:%S")
