"""The pages as HTML: a list of users, one history with its ranked candidates, and errors."""

import dataclasses
import datetime
import itertools
from collections.abc import Mapping, Sequence

import numpy as np
from starlette.datastructures import URL

from dgin_tf.inspection import plots
from dgin_tf.inspection.views import Picture
from experiments.exploring.explorer import Explorer, Ranking
from experiments.exploring.histories import NO_LABEL, ORDERS, Candidate, Case, Event, Query
from experiments.exploring.markup import Markup, element, join

USERS_OF_A_PAGE = 50
_NEWEST = 40  # events that are shown before the others are unfolded
_COLORS = 8  # of behavior types
_WIDE = 720  # CSS pixels, below which wide pictures cannot be read; they are scrolled then
_HISTORY_LABEL = "Or a history: items, the newest last"
_STRIP_WIDTH, _LANE = 1000, 14  # units of the drawing of a history


@dataclasses.dataclass(frozen=True)
class State:
    """What a page of one history shows, which its address holds.

    Attributes:
      query: history and candidates.
      model: name of the model that ranks.
      other: name of the model beside it; empty for none.
      item: raw id of the candidate that is explained; empty for none.
    """

    query: Query
    model: str
    other: str = ""
    item: str = ""

    @property
    def models(self) -> tuple[str, ...]:
        """Names of the models, one or two."""
        return (self.model, self.other) if self.other else (self.model,)

    def address(self, path: str = "/rank", **changes: str | int) -> str:
        """Address of the page that differs from this one by some parameters; empty ones are left out."""
        query = self.query
        parameters = {
            "user": query.user,
            "history": ",".join(query.history),
            "at": "" if query.position is None else query.position,
            "candidates": ",".join(query.candidates),
            "popular": query.popular,
            "model": self.model,
            "compare": self.other,
            "item": self.item,
            **changes,
        }
        return address(path, **{name: v for name, v in parameters.items() if v != ""})


def address(path: str, **parameters: str | int) -> str:
    """An address with parameters, which are encoded."""
    return str(URL(path).include_query_params(**parameters))


def users_page(explorer: Explorer, order: str, number: int) -> Markup:
    """The list of users, and forms for the ids of others.

    Args:
      explorer: of the models.
      order: one of `ORDERS`.
      number: of the page, from 1; the last one where there are fewer.
    """
    rows = explorer.users.sorted(order)
    pages = max(-(-len(rows) // USERS_OF_A_PAGE), 1)
    number = min(number, pages)
    shown = rows[(number - 1) * USERS_OF_A_PAGE :][:USERS_OF_A_PAGE]
    orders = [
        element("strong", text)
        if name == order
        else element("a", text, href=address("/", order=name))
        for name, text in ORDERS.items()
    ]
    head = [element("th", text) for text in ("user", "events", "targets", "first", "last event")]
    lines = [
        element(
            "tr",
            element("td", element("a", row.raw_id, href=address("/rank", user=row.raw_id))),
            element("td", f"{row.events:,}"),
            element("td", f"{row.targets:,}"),
            element("td", _date(row.first)),
            element("td", _date(row.last)),
        )
        for row in shown
    ]
    table = element("table", element("tr", *head), *lines, class_="users")
    steps = [("previous", number - 1), ("next", number + 1)]
    links = [
        element("a", text, href=address("/", order=order, page=page))
        for text, page in steps
        if 1 <= page <= pages
    ]
    return _page(
        explorer,
        f"Users of the {explorer.split} split",
        _forms({}),
        element("h2", "Users"),
        element(
            "p",
            f"{plots.plural(len(rows), 'user')}. Events are those before a user's last target. Sorted: ",
            *itertools.chain(*zip(orders, (" \N{MIDDLE DOT} ",) * len(orders), strict=True)),
            f"page {number:,} of {pages:,}",
        ),
        element("div", table, class_="scroll"),
        element("nav", *links, class_="pages", aria_label="pages of users"),
    )


def error_page(
    explorer: Explorer, title: str, sentence: str, typed: Mapping[str, str] | None = None
) -> Markup:
    """One sentence that says what is wrong, and the forms to ask again.

    Args:
      explorer: of the models.
      title: of the page.
      sentence: of an error.
      typed: parameters of the request, of which forms show what can be corrected there.
    """
    return _page(explorer, title, element("p", sentence, role="alert"), _forms(typed or {}))


def ranking_page(explorer: Explorer, state: State, sentence: str = "") -> Markup:
    """A history as a timeline, the candidates as models rank them, and what is behind one of them.

    Args:
      explorer: of the models.
      state: of the page.
      sentence: of an error, for the top of the page.

    Raises:
      UnknownIdError: the data or the candidates have no such id.
      QueryError: the query is incomplete.
    """
    case = explorer.case(state.query)
    place = case.place_of(state.item) if state.item else None
    title = f"User {state.query.user}" if state.query.user else "A typed history"
    return _page(
        explorer,
        title,
        element("p", sentence, role="alert") if sentence else None,
        element("p", _summary(case), class_="note"),
        _targets(case, state) if state.query.user else _typed_note(),
        _controls(explorer, state),
        element("h2", "History"),
        _timeline(explorer, case, state, place),
        *_answers(explorer, case, state, place),
    )


def _answers(explorer: Explorer, case: Case, state: State, place: int | None) -> list[Markup]:
    """Rankings and explanations: beside each other for one model, below each other for two."""
    rankings = {name: explorer.ranking(name, state.query) for name in state.models}
    tables = [_ranking(case, state, rankings, name) for name in state.models]
    head = element("h2", "Ranked candidates")
    ranks = element("p", _clicked_ranks(case, rankings), class_="note")
    if place is None:
        return [head, ranks, _side_by_side(tables)]
    behind = element("h2", f"Behind {case.candidates[place].name}", id="behind")
    drawings = [_explanation(explorer, state, name, place) for name in state.models]
    if len(tables) == 1:
        parts = [(head, ranks, *tables), (behind, *drawings)]
        return [_side_by_side([element("section", *part) for part in parts])]
    return [head, ranks, _side_by_side(tables), behind, _side_by_side(drawings)]


def _page(explorer: Explorer, title: str, *content: str | None) -> Markup:
    models = ", ".join(explorer.models)
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", name="viewport", content="width=device-width,initial-scale=1"),
        element("title", f"{title}: dgin explore"),
        element("link", rel="stylesheet", href="/style.css"),
    )
    header = element(
        "header",
        element("strong", element("a", "All users", href="/")),
        element("span", f"models {models} on the {explorer.split} split", class_="muted"),
    )
    body = element("body", header, element("main", element("h1", title), *content))
    return join(Markup("<!doctype html>"), element("html", head, body, lang="en"))


def _forms(typed: Mapping[str, str]) -> Markup:
    texts = {name: typed.get(name, "") for name in ("user", "history", "candidates")}
    by_user = element(
        "form",
        _input("User", "user", required=True, placeholder="raw id", value=texts["user"]),
        element("button", "Show"),
        action="/rank",
        method="get",
    )
    by_items = element(
        "form",
        _input(_HISTORY_LABEL, "history", "wide", required=True, value=texts["history"]),
        _input(
            "Candidates (popular items where empty)",
            "candidates",
            "wide",
            value=texts["candidates"],
        ),
        element("button", "Rank"),
        action="/rank",
        method="get",
    )
    note = "Ids are those of the log; several are separated by commas."
    return join(by_user, by_items, element("p", note, class_="note"))


def _input(
    text: str, name: str, class_: str | None = None, **attributes: str | int | bool
) -> Markup:
    field = element("input", name=name, autocomplete="off", **attributes)
    return element("label", text, field, class_=class_)


def _controls(explorer: Explorer, state: State) -> Markup:
    query = state.query
    kept = {
        "user": query.user,
        "at": "" if query.position is None else str(query.position),
        "item": state.item,
    }
    history = None
    if query.history:
        history = _input("Items, the newest last", "history", "wide", value=",".join(query.history))
    names = list(explorer.models)
    return element(
        "form",
        *(element("input", type="hidden", name=n, value=v) for n, v in kept.items() if v),
        _select("Model", "model", names, state.model),
        _select("Beside it", "compare", ["", *names], state.other),
        history,
        _input(
            f"Candidates ({'the user’s own and popular items' if query.user else 'popular items'} where empty)",
            "candidates",
            "wide",
            value=",".join(query.candidates),
        ),
        _input("Popular items", "popular", type="number", min=0, max=100, value=query.popular),
        element("button", "Show"),
        action="/rank",
        method="get",
    )


def _select(text: str, name: str, values: Sequence[str], chosen: str) -> Markup:
    options = [
        element("option", value or "none", value=value, selected=value == chosen)
        for value in values
    ]
    return element("label", text, element("select", *options, name=name))


def _summary(case: Case) -> str:
    times = [event.seconds for event in case.events if event.seconds is not None]
    span = f", {_date(times[0])} to {_date(times[-1])}" if times else ""
    profile = f"; {', '.join(case.profile)}" if case.profile else ""
    return f"{plots.plural(len(case.events), 'past event')}{span}{profile}."


def _typed_note() -> Markup:
    return element(
        "p",
        "Typed events are taken to be an hour apart, the last one at the newest time of the split, and of the "
        "first behavior type; nothing else is known of the user.",
        class_="note",
    )


def _targets(case: Case, state: State) -> Markup:
    """Links to the user's other targets, each of which has the history that was before it."""
    positions = case.positions
    now = positions.index(len(case.events))
    steps = [("earlier target", now - 1), ("later target", now + 1)]
    links = [
        element("a", text, href=state.address(at=positions[place], item=""))
        for text, place in steps
        if 0 <= place < len(positions)
    ]
    text = f"Target {now + 1} of {len(positions)}, behind {plots.plural(positions[now], 'event')}"
    return element("nav", element("span", text), *links, class_="pages", aria_label="targets")


def _timeline(explorer: Explorer, case: Case, state: State, place: int | None) -> Markup:
    """Events by day, the newest first, in the colors of their types; long histories are folded."""
    if not case.events:
        return element("p", "No past events.")
    read = {name: set(explorer.read_events(name, case).tolist()) for name in state.models}
    category = "" if place is None else case.candidates[place].category
    alike = {n for n, event in enumerate(case.events) if category and event.category == category}
    unread = set(range(len(case.events))).difference(*read.values())
    newest = list(range(len(case.events)))[::-1]
    shown, folded = newest[:_NEWEST], newest[_NEWEST:]
    types = explorer.data.schema.behavior_types or ("event",)
    marks = unread, alike
    parts = [_strip(case.events, types), _legend(types, marks, category)]
    parts.append(_reading(explorer, case, read))
    parts.append(_days(case.events, shown, types, marks))
    if folded:
        summary = element("summary", f"Show all {len(case.events):,} events")
        parts.append(element("details", summary, _days(case.events, folded, types, marks)))
    return join(*parts)


def _reading(explorer: Explorer, case: Case, read: dict[str, set[int]]) -> Markup | None:
    """A sentence for each model that does not read all events."""
    texts = []
    for name, places in read.items():
        if len(places) < len(case.events):
            model, max_history = explorer.models[name]
            types = f" of type {', '.join(model.config.behavior_types)}" if model.type_ids else ""
            texts.append(
                f"{name} reads {len(places):,} of the {len(case.events):,} events: those{types} among the "
                f"newest {max_history:,}."
            )
    return element("p", " ".join(texts), class_="note") if texts else None


def _strip(events: Sequence[Event], types: Sequence[str]) -> Markup | None:
    """The whole history from left to right, a line an event, a lane a type."""
    times = [event.seconds for event in events]
    if None in times or times[0] == times[-1]:
        return None
    seconds = np.array(times, float)
    across = 4 + (seconds - seconds[0]) / (seconds[-1] - seconds[0]) * (_STRIP_WIDTH - 8)
    used = sorted({event.behavior_type for event in events})
    lines = [
        element(
            "line",
            class_=_color(event.behavior_type),
            x1=f"{x:.1f}",
            x2=f"{x:.1f}",
            y1=_LANE * used.index(event.behavior_type) + 2,
            y2=_LANE * (used.index(event.behavior_type) + 1) - 2,
        )
        for event, x in zip(events, across, strict=True)
    ]
    height = _LANE * len(used)
    drawing = element(
        "svg",
        *lines,
        class_="strip",
        viewBox=f"0 0 {_STRIP_WIDTH} {height}",
        height=height * 2,
        preserveAspectRatio="none",
        role="img",
        aria_label=f"{len(events)} events by time, of the types {', '.join(types)}",
    )
    ends = [element("span", _date(times[0])), element("span", _date(times[-1]))]
    return join(drawing, element("div", *ends, class_="ends"))


def _legend(types: Sequence[str], marks: tuple[set[int], set[int]], category: str) -> Markup | None:
    unread, alike = marks
    entries = [
        element("li", element("span", class_=f"swatch {_color(number)}"), name)
        for number, name in enumerate(types)
        if len(types) > 1
    ]
    if unread:
        entries.append(element("li", "pale: not read by the model"))
    if alike:
        entries.append(
            element(
                "li",
                f"framed: {category}, as the chosen candidate ({plots.plural(len(alike), 'event')})",
            )
        )
    return element("ul", *entries, class_="legend") if entries else None


def _days(
    events: Sequence[Event],
    places: Sequence[int],
    types: Sequence[str],
    marks: tuple[set[int], set[int]],
) -> Markup:
    unread, alike = marks
    days = []
    for day, of_day in itertools.groupby(places, lambda place: _date(events[place].seconds)):
        chips = []
        for place in of_day:
            event = events[place]
            classes = [_color(event.behavior_type)]
            classes += ["unread"] if place in unread else []
            classes += ["alike"] if place in alike else []
            kind = types[event.behavior_type] if event.behavior_type < len(types) else "unknown"
            named = element("span", f"{kind} ", class_="hidden") if len(types) > 1 else None
            words = ", ".join(filter(None, (event.category, event.details)))
            details = element("span", f" {words}", class_="muted") if words else None
            moment = f"{kind}, {_time(event.seconds)}".removesuffix(", ")
            chips.append(
                element("li", named, event.name, details, class_=" ".join(classes), title=moment)
            )
        date = element("span", day or "no dates", class_="date")
        days.append(element("li", date, element("ol", *chips, class_="events")))
    return element("ol", *days, class_="days")


def _ranking(case: Case, state: State, rankings: dict[str, Ranking], name: str) -> Markup:
    """The candidates as one model ranks them, with differences to the other model's ranks."""
    ranking = rankings[name]
    others = [other for other in rankings if other != name]
    rows = []
    for place in ranking.order.tolist():
        candidate = case.candidates[place]
        link = element("a", candidate.name, href=state.address(item=candidate.raw_id) + "#behind")
        probability = float(ranking.probabilities[place])
        cells = [
            element("td", str(ranking.ranks[place])),
            element("td", link, *_remarks(candidate), class_="item"),
            element("td", _bar(probability), class_="gauge"),
            element("td", f"{probability:.4f}", class_="number"),
            *(_moved(int(rankings[n].ranks[place] - ranking.ranks[place])) for n in others),
        ]
        marks = ["clicked"] if candidate.label > 0 else []
        marks += ["chosen"] if candidate.raw_id == state.item else []
        rows.append(element("tr", *cells, class_=" ".join(marks) or None))
    cells = [
        element("th", "#"),
        element("th", "candidate", class_="item"),
        element("th", "probability", colspan=2),
        *(element("th", f"than {other}", class_="moved") for other in others),
    ]
    table = element("table", element("tr", *cells), *rows, class_="ranking")
    return element("section", element("h3", name), table)


def _remarks(candidate: Candidate) -> list[Markup]:
    """The label where it is known, the raw id where the name is a title, and the other ids."""
    texts = [] if candidate.name == candidate.raw_id else [f"item {candidate.raw_id}"]
    details = ", ".join([*texts, candidate.category] if candidate.category else texts)
    remarks = [join(" ", element("small", details))] if details else []
    if candidate.label != NO_LABEL:
        text = "clicked" if candidate.label else "not clicked"
        remarks.append(join(" ", element("span", text, class_="label")))
    return remarks


def _bar(probability: float) -> Markup:
    fill = element("rect", width=f"{100 * probability:.2f}", height=10)
    return element(
        "svg", fill, viewBox="0 0 100 10", preserveAspectRatio="none", aria_hidden="true"
    )


def _moved(higher: int) -> Markup:
    if not higher:
        return element("td", "same", class_="moved muted")
    arrow, word = (
        ("\N{BLACK UP-POINTING TRIANGLE}", "higher")
        if higher > 0
        else (
            "\N{BLACK DOWN-POINTING TRIANGLE}",
            "lower",
        )
    )
    text = element("span", f" ranks {word}", class_="hidden")
    return element(
        "td", f"{arrow} {abs(higher)}", text, class_=f"moved {'up' if higher > 0 else 'down'}"
    )


def _clicked_ranks(case: Case, rankings: dict[str, Ranking]) -> str:
    """Where the clicked items are in every ranking."""
    clicked = [place for place, candidate in enumerate(case.candidates) if candidate.label > 0]
    if not clicked:
        return "Choose a candidate to see what is behind its probability."
    texts = [
        f"{name} has it at rank {', '.join(map(str, sorted(r.ranks[clicked].tolist())))}"
        for name, r in rankings.items()
    ]
    return (
        f"What the user clicked, among {len(case.candidates)} candidates: {'; '.join(texts)}. Choose a "
        "candidate to see what is behind its probability."
    )


def _explanation(explorer: Explorer, state: State, name: str, place: int) -> Markup:
    """Pictures of what a model makes of the history for one candidate."""
    figures = [
        element(
            "figure",
            element(
                "div",
                _image(
                    state.address("/picture.png", model=name, compare="", picture=picture.name),
                    picture,
                ),
                class_="scroll",
            ),
            element("figcaption", picture.caption),
        )
        for picture in explorer.pictures(name, state.query, place)
    ]
    nothing = element(
        "p",
        f"There is nothing to draw of {name} here: it names no weights of events, groups, clusters or slots "
        "for this history.",
    )
    return element("section", element("h3", name), *(figures or [nothing]))


def _side_by_side(parts: Sequence[Markup]) -> Markup:
    return element("div", *parts, class_="models")


def _image(source: str, picture: Picture) -> Markup:
    """A picture, which is a link to itself in full size."""
    width, height = (round(plots.CSS_PIXELS_PER_INCH * n) for n in picture.figure.get_size_inches())
    image = element(
        "img",
        src=source,
        alt=picture.caption,
        width=width,
        height=height,
        class_="wide" if width > _WIDE else None,
    )
    return element("a", image, href=source)


def _color(behavior_type: int) -> str:
    return f"t{behavior_type % _COLORS}"


def _date(seconds: int | None) -> str:
    return "" if seconds is None else f"{_moment(seconds):%Y-%m-%d}"


def _time(seconds: int | None) -> str:
    return "" if seconds is None else f"{_moment(seconds):%Y-%m-%d %H:%M} UTC"


def _moment(seconds: int) -> datetime.datetime:
    # Times of any log, before 1970 too, which fromtimestamp takes on some systems only.
    epoch = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
    return epoch + datetime.timedelta(seconds=seconds)
