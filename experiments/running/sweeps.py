"""Sweeps: one run for every point of a grid of settings, and the point that is best on validation.

    --sweep="model.units=16,36;optimizer.learning_rate=1e-3,2e-3"

The runs of a point are in a folder of its name, `M/model.units=16,optimizer.learning_rate=0.001`, and
are not trained again once they are finished. Test metrics are shown of the chosen point alone.
"""

import ast
import copy
import itertools
import math
import os
import pathlib
import re
from collections.abc import Mapping, Sequence
from typing import Any

import ml_collections

from dgin_tf.ownership import claim
from dgin_tf.schema import write_text
from dgin_tf.training.display import METRICS, metrics_text
from dgin_tf.training.loop import HIGHER_IS_BETTER, write_json
from experiments.running.runs import SeedPool, machine, plain_config, versions

TABLE_FILE, RESULT_FILE = "sweep.md", "sweep.json"

Point = Mapping[str, Any]
"""Setting -> value."""


def grid(text: str) -> list[Point]:
    """Points of a grid, in the order of its text, the last setting changing fastest.

    Args:
      text: `setting=value,value;setting=value`; a value is a number, True, False, None, a tuple in
        parentheses, or else a text.

    Raises:
      ValueError: the text is of another form, or names a setting or a value twice.

    Example:

      >>> grid("model.units=16,36;optimizer.name=adam")
      [{'model.units': 16, 'optimizer.name': 'adam'}, {'model.units': 36, 'optimizer.name': 'adam'}]
    """
    axes: dict[str, list[Any]] = {}
    for part in filter(None, (part.strip() for part in text.split(";"))):
        name, equals, values = part.partition("=")
        name = name.strip().removeprefix("config.")
        if not equals or not name or not values.strip():
            raise ValueError(
                f"expected --sweep='setting=value,value;setting=value,value'; got {part!r} in it."
            )
        if name in axes:
            raise ValueError(f"the sweep names {name} twice; write all its values together.")
        axes[name] = [_value(value) for value in _split(values)]
        if len(set(map(repr, axes[name]))) < len(axes[name]):
            raise ValueError(f"the sweep has a value of {name} twice: {values}.")
    if not axes:
        raise ValueError("expected settings in --sweep, such as model.units=16,36; got none.")
    return [dict(zip(axes, values, strict=True)) for values in itertools.product(*axes.values())]


def configure(config: ml_collections.ConfigDict, point: Point) -> ml_collections.ConfigDict:
    """Copies a config with the settings of a point.

    Raises:
      ValueError: the config has no such setting, or it takes values of another type.
    """
    config = copy.deepcopy(config)
    for name, value in point.items():
        *path, last = name.split(".")
        parent = config
        try:
            for part in path:
                parent = parent[part]
            if last not in parent or isinstance(parent[last], ml_collections.ConfigDict):
                raise KeyError(last)
            parent[last] = value
        except (KeyError, AttributeError, TypeError) as error:
            reason = f" ({error})" if isinstance(error, TypeError) else ""
            raise ValueError(
                f"the sweep sets {name}={value!r}, which this config cannot take{reason}; "
                "`train --config.SETTING=VALUE` has the same names."
            ) from error
    return config


def run_sweep(
    pool: SeedPool,
    config: ml_collections.ConfigDict,
    points: Sequence[Point],
    data_dir: str,
    folder: str | os.PathLike,
    seeds: Sequence[int],
) -> dict[str, Any]:
    """Trains what is not finished of a sweep, and writes its table.

    Args:
      pool: processes.
      config: settings that all points share.
      points: of the grid.
      data_dir: prepared data set.
      folder: for the runs, `sweep.json` and `sweep.md`.
      seeds: of every point.

    Returns:
      What `sweep.json` holds: `rows` with `point`, `folder`, `validation`, `deviation` and `seconds` of
      each; `chosen`, the number of the row whose mean of the metric `monitor` on validation is best;
      `test`, metrics of that row alone; `seeds`, `config`, `machine` and `versions`.

    Raises:
      ValueError: the config cannot take a setting of the grid; nothing is trained then.
    """
    folder = pathlib.Path(folder)
    configs = [configure(config, point) for point in points]
    claim(folder, "a sweep", [RESULT_FILE, TABLE_FILE])
    waiting = [
        pool.gather(point_config, data_dir, folder / point_name(point), seeds)
        for point, point_config in zip(points, configs, strict=True)
    ]
    results = [wait() for wait in waiting]
    rows = [
        {
            "point": dict(point),
            "folder": point_name(point),
            "validation": _metrics(result["validation"]),
            "deviation": _metrics(result["deviation"]["validation"]),
            "seconds": result["seconds"],
        }
        for point, result in zip(points, results, strict=True)
    ]
    monitor = config.loop.monitor
    sign = 1.0 if HIGHER_IS_BETTER[monitor] else -1.0
    chosen = max(range(len(rows)), key=lambda row: sign * rows[row]["validation"][monitor])
    content = {
        "monitor": monitor,
        "rows": rows,
        "chosen": chosen,
        "test": _metrics(results[chosen]["test"]),
        "seeds": list(seeds),
        "config": plain_config(config),
        "machine": machine(),
        "versions": versions(),
    }
    write_json(folder / RESULT_FILE, content)
    write_text(folder / TABLE_FILE, markdown(content))
    return content


def markdown(content: Mapping[str, Any]) -> str:
    """Formats what `run_sweep` returns as a table, the chosen row in bold and its test metrics below."""
    settings = list(content["rows"][0]["point"])
    heads = [*settings, *(f"validation {label}" for label in METRICS.values()), "seconds"]
    lines = [f"| {' | '.join(heads)} |", f"|{' --- |' * len(heads)}"]
    for number, row in enumerate(content["rows"]):
        cells = [str(value) for value in row["point"].values()]
        cells += [_cell(row, metric, len(content["seeds"])) for metric in METRICS]
        cells.append(f"{row['seconds']:.0f}")
        mark = "**" if number == content["chosen"] else ""
        lines.append(f"| {' | '.join(f'{mark}{cell}{mark}' for cell in cells)} |")
    chosen = content["rows"][content["chosen"]]
    return "\n".join(
        [
            *lines,
            "",
            f"Chosen by {METRICS[content['monitor']]} on validation: {chosen['folder']}. "
            f"Test: {metrics_text(content['test'])}.",
            "",
        ]
    )


def point_name(point: Point) -> str:
    """Name of a point, and of its folder: `model.units=16,optimizer.learning_rate=0.001`."""
    text = ",".join(f"{setting}={value}" for setting, value in point.items())
    return re.sub(r"[^\w.,=+()-]", "", text)


def _cell(row, metric, seeds):
    spread = f" ± {row['deviation'][metric]:.4f}" if seeds > 1 else ""
    return f"{row['validation'][metric]:.4f}{spread}"


def _metrics(metrics: Mapping[str, Any]) -> dict[str, float]:
    return {name: metrics.get(name, math.nan) for name in METRICS}


def _value(text: str) -> Any:
    """A number, True, False, None or a tuple; otherwise the text itself."""
    try:
        return ast.literal_eval(text)
    except (SyntaxError, ValueError):
        return text


def _split(text: str) -> list[str]:
    """Parts between the commas that are in no parentheses."""
    parts = re.findall(r"(?:\([^)]*\)|[^,(])+", text)
    return [part.strip() for part in parts if part.strip()]
