"""The data card: counts of the input and of every stage, and the leak checks, as plain JSON values.

It holds nothing that differs between two runs of the same preparation: no durations, hosts or paths.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from data_prep.column_tables import EntityValues
from data_prep.columns import DeclaredColumns
from data_prep.engines.local import Result
from data_prep.events import MISSING
from data_prep.protocol import TIME as BY_TIME
from data_prep.stages import leaks
from data_prep.stages.columns import Encoding
from data_prep.stages.splits import TRAIN
from data_prep.storage import Columns
from data_prep.tasks.records import UNKNOWN_COLUMNS
from dgin_tf.records import SPLITS


def data_card(
    partition: Sequence[Result],
    histories: Sequence[Result],
    counts: Sequence[Result],
    items: Columns,
    examples: Sequence[Result],
) -> Result:
    """Counts before and after every stage, from the results of the tasks."""
    leak_counts: Counter[str] = Counter()
    left_out: Counter[str] = Counter()
    bad: Counter[str] = Counter()
    for result in partition:
        bad.update(result["bad"])
    for result in examples:
        leak_counts.update(result["leaks"])
        left_out.update(result["counts"])
        for name in result["leaks"]:
            leak_counts[name] += 0
    events = sum(result["events"] for result in partition)
    # Without exact duplicates.
    sorted_events = sum(result["events"] for result in histories)
    duplicates = sum(result["duplicates"] for result in histories)
    return {
        "partition": {
            "lines": sum(result["lines"] for result in partition),
            "events": events,
            "bad_rows": sum(bad.values()),
            "bad_reasons": dict(sorted(bad.items())),
            "kept_events": sorted_events + duplicates,
            "behaviors": add_up(r["behaviors"] for r in partition).tolist(),
        },
        "histories": {
            "events": sorted_events,
            "duplicates": duplicates,
            "users": sum(result["users"] for result in histories),
            "single_event_users": sum(result["single_event_users"] for result in histories),
            "longest": max(result["longest"] for result in histories),
            "behaviors": add_up(r["behaviors"] for r in histories).tolist(),
        },
        "vocabulary": {
            "items": int((items["events"] > 0).sum()),
            "categories": len(np.unique(items["category"][items["category"] != MISSING])),
            "items_with_several_categories": int((items["categories"] > 1).sum()),
            "items_without_category": int(
                ((items["events"] > 0) & (items["category"] == MISSING)).sum()
            ),
            "unknown_category_events": sum(r["unknown_category_events"] for r in examples),
            "training_events": sum(result["training_events"] for result in counts),
            "training_users": sum(result["training_users"] for result in counts),
        },
        "examples": dict(left_out),
        "leaks": dict(leak_counts),
        "splits": _merge_splits([result["splits"] for result in examples]),
        **_whole_histories([result["whole"] for result in examples if result["whole"]]),
    }


def column_figures(
    declared: DeclaredColumns,
    encodings: Sequence[Encoding],
    of_items: EntityValues,
    of_users: EntityValues,
) -> Result:
    """Declared columns with their roles, kinds and shares of missing cells, and the tables they are from."""
    by_name = {column.name: column for column in declared.columns}
    columns = {
        encoding.field.name: {
            "role": by_name[encoding.field.name].role,
            "kind": by_name[encoding.field.name].kind,
            **encoding.figures,
        }
        for encoding in encodings
    }
    tables = {"item_table": of_items.figures, "user_table": of_users.figures}
    return {"columns": columns, **{name: dict(facts) for name, facts in tables.items() if facts}}


def _whole_histories(parts: Sequence[Result]) -> Result:
    """Counts of the whole histories that serving reads; empty where none were written."""
    names = ("users", "events", "events_left_out")
    counts = {name: sum(part[name] for part in parts) for name in names}
    return {"whole_histories": counts} if parts else {}


def _merge_splits(parts: Sequence[Mapping[str, Result]]) -> dict[str, Result]:
    """Adds up the buckets' figures of each split."""
    splits: dict[str, Result] = {}
    for name in SPLITS:
        own = [part[name] for part in parts if name in part]
        if not own:
            continue
        splits[name] = {
            **{
                field: sum(part[field] for part in own)
                for field in (
                    "users",
                    "rows",
                    "candidates",
                    "positives",
                    "unknown_positives",
                    "unknown_categories",
                    "history_events",
                )
            },
            "first_time": min(part["first_time"] for part in own),
            "last_time": max(part["last_time"] for part in own),
            "longest_stored": max(part["longest_stored"] for part in own),
            "history_lengths": add_up(part["history_lengths"] for part in own).tolist(),
        }
        if unknown := [part[UNKNOWN_COLUMNS] for part in own if UNKNOWN_COLUMNS in part]:
            counts: Counter[str] = Counter()
            for part in unknown:
                counts.update(part)
            splits[name][UNKNOWN_COLUMNS] = dict(counts)
    return splits


def check_leaks(card: Result) -> None:
    """Raises ValueError where any leak check found something; adds the check that needs all splits."""
    if card["settings"]["split_by"] == BY_TIME:
        splits = [card["splits"][name] for name in SPLITS if name in card["splits"]]
        # Neighboring splits must not share a second.
        card["leaks"][leaks.TIME_ORDER] = sum(
            earlier["last_time"] >= later["first_time"]
            for earlier, later in zip(splits, splits[1:], strict=False)
        )
    violations = {name: count for name, count in card["leaks"].items() if count}
    if violations:
        raise ValueError(
            "the examples leak: "
            + "; ".join(f"{count} {name}" for name, count in sorted(violations.items()))
            + ". Nothing was kept; with your own examples file, correct it or give --form=paper, "
            "else this is a fault of data_prep."
        )


def check_examples(card: Result) -> None:
    """Raises ValueError where there is nothing to train on."""
    if SPLITS[TRAIN] not in card["splits"]:
        examples, histories = card["examples"], card["histories"]
        raise ValueError(
            f"no training examples: of {histories['users']} users and {examples['targets']} targets, "
            f"{examples.get('targets_without_history', 0)} have no earlier events and "
            f"{examples.get('targets_without_negative', 0)} no item left to be a negative; give a "
            "longer log."
        )


def add_up(rows: Iterable[Sequence[int]]) -> np.ndarray:
    """Element-wise sum of lists of different lengths."""
    table = list(rows)
    width = max(map(len, table), default=0)
    total = np.zeros(width, np.int64)
    for row in table:
        total[: len(row)] += np.asarray(row, np.int64)
    return total


def compare_with_official(
    card: Result, official: Mapping[str, Mapping[str, int]]
) -> list[dict[str, object]]:
    """Compares the counts of a log with those of the known public files of its layout.

    Returns:
      For each known file its `name`, `complete` (True if this log has as many rows), and `counts`:
      column -> [official, here]. Events count before cleaning, with the bad rows, the rest after.
    """
    here = {
        "events": card["partition"]["events"] + card["partition"]["bad_rows"],
        "users": card["histories"]["users"],
        "items": card["vocabulary"]["items"],
        "categories": card["vocabulary"]["categories"],
    }
    return [
        {
            "name": name,
            "complete": counts.get("events") == here["events"],
            "counts": {column: [count, here[column]] for column, count in counts.items()},
        }
        for name, counts in official.items()
    ]
