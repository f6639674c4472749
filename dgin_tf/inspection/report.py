"""A run's `report.html`: one file with its metrics and plots."""

import base64
import html
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from dgin_tf.inspection import plots
from dgin_tf.schema import write_text

REPORT_FILE = "report.html"

_STYLE = (
    "body{font:15px/1.5 system-ui,sans-serif;max-width:76rem;margin:2rem auto;padding:0 1rem}"
    "table{border-collapse:collapse}td,th{border:1px solid #ccc;padding:.2rem .6rem;text-align:right}"
    "td:first-child,th:first-child{text-align:left}img{max-width:100%}pre{overflow-x:auto}"
)
_METRICS = ("auc", "gauc", "log_loss", "calibration", "examples")


class Report:
    """Sections of text, tables and pictures, saved as one page without references to others.

    Args:
      title: heading of the page.
    """

    def __init__(self, title: str):
        self._title = html.escape(title)
        self._parts: list[str] = []

    def section(self, title: str, text: str = "") -> None:
        """Begins a section."""
        paragraph = f"<p>{html.escape(text)}</p>" if text else ""
        self._parts.append(f"<h2>{html.escape(title)}</h2>{paragraph}")

    def table(self, head: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        """Adds a table; numbers with four digits behind the point."""
        cells = "".join(f"<th>{html.escape(name)}</th>" for name in head)
        lines = [
            "<tr>" + "".join(f"<td>{html.escape(_text(value))}</td>" for value in row) + "</tr>"
            for row in rows
        ]
        self._parts.append(f"<table><tr>{cells}</tr>{''.join(lines)}</table>")

    def picture(self, figure: Any, caption: str = "") -> None:
        """Adds a matplotlib figure."""
        data = base64.b64encode(plots.to_png(figure)).decode()
        text = html.escape(caption)  # captions and names come from the data
        self._parts.append(
            f'<figure><img alt="{text}" src="data:image/png;base64,{data}">'
            f"<figcaption>{text}</figcaption></figure>"
        )

    def preformatted(self, text: str) -> None:
        """Adds text with its line breaks: commands, settings."""
        self._parts.append(f"<pre>{html.escape(text)}</pre>")

    def save(self, folder: str | os.PathLike) -> pathlib.Path:
        """Writes `report.html` into `folder`, whole or not at all."""
        path = pathlib.Path(folder) / REPORT_FILE
        body = "\n".join(self._parts)
        # Styles and plots are inside the page, so that it can be moved or sent alone.
        page = (
            '<!doctype html><html lang="en"><head><meta charset="utf-8">'
            f"<title>{self._title}</title><style>{_STYLE}</style></head>"
            f"<body><h1>{self._title}</h1>\n{body}\n</body></html>\n"
        )
        write_text(path, page)
        return path


def add_result(report: Report, result: Mapping[str, Any]) -> None:
    """Adds the metrics of a run's `result.json`: overall, by history length, and as curves."""
    report.section("Metrics", f"Best weights after epoch {result['best_epoch']:g}.")
    splits = [name for name in ("validation", "test") if name in result]
    rows = [[name, *(result[name].get(key) for key in _METRICS)] for name in splits]
    report.table(["split", *_METRICS], rows)
    by_length = result["test"].get("by_history_length") or {}
    report.section("Test, by history length")
    rows = [[name, *map(metrics.get, _METRICS)] for name, metrics in by_length.items()]
    report.table(["events", *_METRICS], rows)
    report.section("Curves")
    report.picture(plots.learning_curves(result["history"]), "over training steps")


def _text(value: Any) -> str:
    if value is None:
        return "-"
    return f"{value:.4f}" if isinstance(value, float) else str(value)
