"""A `report.html`: one file with text, tables and pictures, readable in wide and in narrow windows."""

import base64
import html
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from dgin_tf.inspection import curves, plots
from dgin_tf.schema import write_text

REPORT_FILE = "report.html"

STYLE = """
body{font:16px/1.55 system-ui,sans-serif;color:#1c2430;max-width:62rem;margin:2rem auto;padding:0 1rem}
h1{font-size:1.6rem;line-height:1.25;overflow-wrap:anywhere}
h2{font-size:1.2rem;margin:2.6rem 0 .4rem;padding-top:.8rem;border-top:1px solid #dde3ea}
h3{font-size:1rem;margin:1.6rem 0 .2rem}
p,li,dd{max-width:46rem;overflow-wrap:anywhere}
.scroll{overflow-x:auto;margin:.7rem 0}
table{border-collapse:collapse;font-variant-numeric:tabular-nums}
td,th{border-bottom:1px solid #dde3ea;padding:.25rem .8rem .25rem 0;text-align:right;vertical-align:top;white-space:nowrap}
td:first-child,th:first-child{text-align:left}th{color:#52606f;font-weight:600}
figure{margin:1rem 0}figcaption{max-width:46rem;color:#52606f;font-size:.92rem}
img{display:block;max-width:100%;height:auto}
pre{overflow-x:auto;background:#f4f6f8;padding:.7rem .9rem;border-radius:4px;font-size:.85rem}
dt{font-weight:600;margin-top:.6rem}dd{margin:0}
.bar{display:flex;align-items:center;gap:.6rem;margin:.25rem 0}
.bar .name{flex:0 0 15rem;overflow-wrap:anywhere}.bar .track{flex:1;background:#eef1f4}
.bar .fill{height:1.05rem;background:#3d76b8}.bar.marked .fill{background:#e07b1a}
.bar .value{flex:0 0 3.6rem;text-align:right;font-variant-numeric:tabular-nums}
@media(max-width:40rem){.scroll img{max-width:none;width:40rem}.bar{flex-wrap:wrap;gap:0 .6rem}
.bar .name{flex-basis:100%}}
"""
METRICS = ("auc", "gauc", "log_loss", "calibration", "examples")
METRIC_MEANINGS = {
    "AUC": (
        "Probability that the model scores a clicked example above one that was not clicked, both "
        "drawn at random from the whole split; 0.5 is chance, 1 is perfect."
    ),
    "GAUC": (
        "The same among the examples of one user, then averaged over users by their number of "
        "examples: only comparisons that a ranking for a user depends on."
    ),
    "log loss": (
        "Mean negative logarithm of the probability that the model gave to what happened; lower is "
        "better, and ln 2 = 0.693 is what always saying 1/2 has."
    ),
    "calibration": (
        "Sum of the predicted probabilities over the number of clicks: 1 is right on average, above 1 "
        "promises too many clicks."
    ),
    "examples": "Candidates that were scored, clicked ones and negatives together.",
}


class Report:
    """Sections of text, tables and pictures, saved as one page that loads nothing.

    Args:
      title: heading of the page.
    """

    def __init__(self, title: str):
        self._title = html.escape(title)
        self._parts: list[str] = []

    def section(self, title: str, text: str = "") -> None:
        """Begins a section."""
        self._parts.append(f"<h2>{html.escape(title)}</h2>")
        self.paragraph(text)

    def subsection(self, title: str, text: str = "") -> None:
        """Begins a part of a section."""
        self._parts.append(f"<h3>{html.escape(title)}</h3>")
        self.paragraph(text)

    def paragraph(self, text: str) -> None:
        """Adds a paragraph; nothing where the text is empty."""
        if text:
            self._parts.append(f"<p>{html.escape(text)}</p>")

    def table(self, head: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        """Adds a table: integers with commas, other numbers with four digits behind the point."""
        cells = "".join(f"<th>{html.escape(name)}</th>" for name in head)
        lines = [
            "<tr>" + "".join(f"<td>{html.escape(_text(value))}</td>" for value in row) + "</tr>"
            for row in rows
        ]
        table = f"<table><tr>{cells}</tr>{''.join(lines)}</table>"
        self._parts.append(f'<div class="scroll">{table}</div>')

    def picture(self, figure: Any, caption: str = "") -> None:
        """Adds a matplotlib figure, with a caption that says what is to be seen."""
        data = base64.b64encode(plots.to_png(figure)).decode()
        text = html.escape(caption)  # captions and names come from the data
        width = round(plots.CSS_PIXELS_PER_INCH * figure.get_figwidth())
        self._parts.append(
            f'<figure><div class="scroll"><img width="{width}" alt="{text}" '
            f'src="data:image/png;base64,{data}"></div><figcaption>{text}</figcaption></figure>'
        )

    def probabilities(self, rows: Sequence[tuple[str, float, bool]]) -> None:
        """Adds a bar for each name and probability; those with True are in another color."""
        for name, probability, is_marked in rows:
            self._parts.append(
                f'<div class="bar{" marked" if is_marked else ""}">'
                f'<span class="name">{html.escape(name)}</span><span class="track">'
                f'<div class="fill" style="width:{100 * probability:.1f}%"></div></span>'
                f'<span class="value">{probability:.3f}</span></div>'
            )

    def preformatted(self, text: str) -> None:
        """Adds text with its line breaks: commands, settings."""
        self._parts.append(f"<pre>{html.escape(text)}</pre>")

    def definitions(self, meanings: Mapping[str, str]) -> None:
        """Adds a list of terms with what they mean."""
        entries = [
            f"<dt>{html.escape(term)}</dt><dd>{html.escape(text)}</dd>"
            for term, text in meanings.items()
        ]
        self._parts.append(f"<dl>{''.join(entries)}</dl>")

    def links(self, pages: Mapping[str, tuple[str, str]]) -> None:
        """Adds links to other files.

        Args:
          pages: path relative to the folder of the page, with slashes -> its name, and what it shows.
        """
        entries = [
            f'<li><a href="{_address(path)}">{html.escape(name)}</a>: {html.escape(text)}</li>'
            for path, (name, text) in pages.items()
        ]
        self._parts.append(f"<ul>{''.join(entries)}</ul>")

    def save(self, folder: str | os.PathLike) -> pathlib.Path:
        """Writes `report.html` into `folder`, whole or not at all."""
        path = pathlib.Path(folder) / REPORT_FILE
        body = "\n".join(self._parts)
        # Styles and plots are inside the page, so that it can be moved or sent alone.
        page = (
            '<!doctype html><html lang="en"><head><meta charset="utf-8">'
            '<meta name="viewport" content="width=device-width,initial-scale=1">'
            f"<title>{self._title}</title><style>{STYLE}</style></head>"
            f"<body><h1>{self._title}</h1>\n{body}\n</body></html>\n"
        )
        write_text(path, page)
        return path


def add_metrics(report: Report, rows: Mapping[str, Mapping[str, Any]], head: str = "") -> None:
    """Adds a table of metrics, a row a name, whose columns are explained by `METRIC_MEANINGS`."""
    report.table(
        [head, *METRIC_MEANINGS],
        [
            [name, *(_count(m[key]) if key == "examples" else m.get(key) for key in METRICS)]
            for name, m in rows.items()
        ],
    )


def add_result(report: Report, result: Mapping[str, Any]) -> None:
    """Adds the metrics of a run's `result.json`: overall, by history length, and as curves."""
    report.section(
        "Metrics",
        f"Of the weights that did best on the validation split, after epoch {result['best_epoch']:g}; "
        "the test split was scored once, with these.",
    )
    add_metrics(report, {split: result[split] for split in ("validation", "test")}, "split")
    report.definitions(METRIC_MEANINGS)
    by_length = result["test"].get("by_history_length") or {}
    if by_length:
        report.section("Test split by history length")
        report.picture(
            curves.metric_by_length({"test": by_length}),
            "AUC of the test examples whose histories have so many events; below each interval its "
            "number of examples, of which few make a noisy AUC.",
        )
        add_metrics(report, by_length, "events")
    report.section("Learning curves")
    losses = [name for name in result["history"][0]["losses"] if name not in ("loss", "target")]
    text = "A mark is a validation: training losses are means since the one before."
    if losses:
        text += (
            f" The {' and '.join(losses)} loss has an axis of its own, since it sums over all past "
            "events and is on another scale than the loss of the clicks."
        )
    report.picture(curves.learning_curves({"run": result["history"]}), text)


def _count(value: float | None) -> float | None:
    """A mean over seeds of a count that is the same for all is an integer again."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _address(path: str) -> str:
    """A relative path as an address: all but letters, digits and a few marks in percent."""
    octets = path.encode()
    plain = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._~/"
    return "".join(chr(octet) if octet in plain else f"%{octet:02X}" for octet in octets)


def _text(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:.4f}" if isinstance(value, float) else str(value)
