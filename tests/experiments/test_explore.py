"""The page that shows users, rankings and what is behind them: it says what the models say, and nothing breaks out of it."""

import html
import os
import re
import signal
import subprocess
import sys
import threading

import numpy as np
import pytest

from dgin_tf.commands.start_up import INTERRUPTED
from dgin_tf.inputs.pipeline import BatchOptions, PreparedData
from dgin_tf.models import registry
from dgin_tf.models.base import ModelConfig
from dgin_tf.schema import FIRST_ID
from experiments.running import defaults, runs
from tests.browser import Tab
from tests.pages import ROOT
from tests.prepared import CATEGORIES, ITEMS, USERS, write_prepared

testclient = pytest.importorskip("fastapi.testclient", reason="needs fastapi and httpx")
httpx = pytest.importorskip("httpx", reason="needs httpx")
uvicorn = pytest.importorskip("uvicorn", reason="needs uvicorn")
from experiments.exploring import app, explorer, histories, server  # noqa: E402

MAX_HISTORY = 23
SCRIPT = "<script>alert(1)</script>"
SETTINGS = {"din": {}, "mimn": {"slots": 3}, "base_model": {}}


def write_vocabularies(folder):
    """Raw ids that are markup, each its own kind of it."""
    (folder / "vocabulary").mkdir()
    raw = {"user_id": "u{}" + SCRIPT, "item_id": 'i{}"><b>', "category_id": "c{}&amp;"}
    for (name, text), size in zip(raw.items(), (USERS, ITEMS, CATEGORIES), strict=True):
        lines = [text.format(number) for number in range(FIRST_ID, size)]
        (folder / "vocabulary" / f"{name}.txt").write_text("\n".join(lines) + "\n")


@pytest.fixture(scope="module")
def explored(tmp_path_factory):
    folder = tmp_path_factory.mktemp("explored") / "data"
    write_prepared(folder, users=17, cuts=2, negatives=3, behavior_types=("click", "buy"))
    write_vocabularies(folder)
    data = PreparedData(folder)
    rng, models = np.random.default_rng(5), {}
    for name, settings in SETTINGS.items():
        model = registry.make_model(name, data.schema, ModelConfig(5, (), (7,)), **settings)
        model.build()
        for variable in model.trainable_variables:  # large enough for scores to differ
            variable.assign(rng.normal(0.0, 0.4, variable.shape))
        models[name] = explorer.ExploredModel(model, MAX_HISTORY)
    return explorer.Explorer(data, models, "test")


@pytest.fixture(scope="module")
def page(explored):
    client = testclient.TestClient(app.make_app(explored), raise_server_exceptions=False)

    def get(path="/rank", **parameters):
        return client.get(path, params=parameters or None)

    return get


@pytest.fixture(scope="module")
def longest(explored):
    """Raw id of the user with the most events."""
    return max(explored.users.rows.values(), key=lambda row: row.events).raw_id


def ranked(text, table=0):
    """Rows of a ranking as (rank, candidate, label, probability, move) in the page's order."""
    tables = re.findall('<table class="ranking">(.*?)</table>', text)
    rows = re.findall("<tr[^>]*>(<td.*?)</tr>", tables[table])
    return [_cells(*re.findall("<td[^>]*>(.*?)</td>", row)) for row in rows]


def _cells(rank, item, _bar, probability, *move):
    (name,) = re.findall("<a [^>]*>(.*?)</a>", item)
    label = re.search('class="label">(.*?)<', item)
    plain = [html.unescape(re.sub("<[^>]*>", "", cell)) for cell in move]
    return int(rank), html.unescape(name), label and label[1], float(probability), *plain


def test_probabilities_are_those_of_the_model_on_the_batches_of_the_split(explored, page):
    names = explored.histories.names
    *_, batch = explored.data.evaluation("test", BatchOptions(64, MAX_HISTORY))  # the longest
    expected = explored.models["mimn"].model.predict_on_batch(batch)
    arrays = {name: value.numpy() for name, value in batch.items()}
    compared = 0
    for row in np.flatnonzero(arrays["cand_mask"].any(1))[:3]:
        (user,) = names.raw("user_id", arrays["user_id"][row : row + 1])
        positions = np.unique(explored.users.record(user)["cand_position"]).tolist()
        answers = [page(user=user, at=at, model="mimn", popular=0).text for at in positions]
        items = names.raw("item_id", arrays["cand_item_id"][row])
        wanted = pytest.approx(dict(zip(items, expected[row], strict=True)), abs=1e-4)
        assert wanted in [{item: p for _, item, _, p in ranked(text)} for text in answers]
        compared += 1
    assert compared == 3


def test_candidates_are_ranked_and_the_clicked_one_is_known(page, longest):
    rows = ranked(page(user=longest, popular=7).text)
    assert [rank for rank, *_ in rows] == list(range(1, len(rows) + 1))
    assert sorted((p for *_, p in rows), reverse=True) == [p for *_, p in rows]
    labels = [label for _, _, label, _ in rows]
    assert (labels.count("clicked"), labels.count(None)) == (1, 7)


def test_two_models_are_side_by_side_with_the_differences_of_their_ranks(page, longest):
    text = page(user=longest, model="din", compare="mimn").text
    ranks = [{item: rank for rank, item, *_ in ranked(text, table)} for table in (0, 1)]
    assert ranks[0] != ranks[1]
    for _, item, *_, move in ranked(text):
        higher = ranks[1][item] - ranks[0][item]
        word = f"{abs(higher)} ranks {'higher' if higher > 0 else 'lower'}" if higher else "same"
        assert word in move


def test_a_chosen_candidate_shows_the_pictures_of_both_models(page, longest):
    item = ranked(page(user=longest).text)[0][1]
    text = page(user=longest, model="din", compare="mimn", item=item).text
    sources = [html.unescape(source) for source in re.findall('<img src="(.*?)"', text)]
    names = [re.search("picture=([a-z-]+)", source)[1] for source in sources]
    assert names == ["attention", "writing", "reading", "channels"]
    first = page(sources[0])
    assert first.content.startswith(b"\x89PNG")
    width = int(re.search('width="([0-9]+)"', text)[1])
    assert int.from_bytes(first.content[16:20], "big") == round(1.4 * width)  # drawn finer


def test_a_picture_is_drawn_once_and_sent_once(explored, longest, monkeypatch):
    client = testclient.TestClient(app.make_app(explored))
    item = explored.case(histories.Query(longest)).candidates[0].raw_id
    asked = {"user": longest, "model": "mimn", "item": item, "picture": "reading"}
    first = client.get("/picture.png", params=asked)
    monkeypatch.setattr(explorer.plots, "to_png", None)  # whoever draws again fails
    again = client.get(
        "/picture.png", params=asked, headers={"If-None-Match": first.headers["ETag"]}
    )
    assert client.get("/picture.png", params=asked).content == first.content
    assert (again.status_code, again.content) == (304, b"")


def test_a_model_that_weighs_nothing_is_said_to(page, longest):
    item = ranked(page(user=longest).text)[0][1]
    text = page(user=longest, model="base_model", item=item).text
    assert "There is nothing to draw of base_model here" in text


def test_a_timeline_has_all_events_and_says_which_are_read(page, explored, longest):
    text = page(user=longest).text
    events = explored.users.rows[longest].events
    assert events > 40
    assert len(re.findall("<li [^>]*title=", text)) == events
    assert f"Show all {events} events" in text
    assert f"din reads {MAX_HISTORY} of the {events} events" in text
    assert len(re.findall('<li class="t[01] unread', text)) == events - MAX_HISTORY
    for number, name in enumerate(("click", "buy")):
        assert f'<span class="swatch t{number}"></span>{name}' in text


def test_a_model_of_some_types_is_drawn_by_the_events_that_it_reads(explored, longest):
    config = ModelConfig(5, (), (7,), behavior_types=("buy",), newest_events=3)
    model = registry.make_model("din", explored.data.schema, config)
    buyers = explorer.Explorer(
        explored.data, {"din": explorer.ExploredModel(model, MAX_HISTORY)}, "test"
    )
    query = histories.Query(longest)
    case = buyers.case(query)
    read = buyers.read_events("din", case)
    bought = [n for n, event in enumerate(case.events) if event.behavior_type == 1]
    assert read.tolist() == bought[-3:]
    assert [picture.name for picture in buyers.pictures("din", query, 0)] == ["attention"]


def test_an_earlier_target_has_the_history_that_was_before_it(page, explored, longest):
    first, last = np.unique(explored.users.record(longest)["cand_position"]).tolist()
    text = page(user=longest, at=first).text
    assert f"{first} past events" in text
    assert f"Target 1 of 2, behind {first} events" in text
    assert f"at={last}" in text


def test_typed_ids_rank_as_the_log_has_them(page, explored):
    case = explored.case(histories.Query(history=('i7"><b>', 'i9"><b>'), candidates=('i4"><b>',)))
    assert case.features["hist_item_id"].tolist() == [[7, 9]]
    catalogue = explored.data.catalogue["category_id"]
    assert case.features["cand_category_id"].tolist() == [[catalogue[4]]]
    assert case.features["hist_timestamp"][0, -1] == explored.users.newest
    answer = page(history='i7"><b>, i9"><b>', candidates='i4"><b>,i5"><b>', model="mimn")
    assert sorted(item for _, item, *_ in ranked(answer.text)) == ['i4"><b>', 'i5"><b>']
    assert "2 past events" in answer.text


@pytest.mark.parametrize(
    ("status", "words", "parameters"),
    [
        (404, "has no user &#x27;nobody&#x27;", {"user": "nobody"}),
        (404, "no item &#x27;x&#x27;, &#x27;y&#x27;", {"history": "x,y"}),
        (404, "There is no model &#x27;../din&#x27;", {"history": "x", "model": "../din"}),
        (404, "Item &#x27;z&#x27; is not among the candidates", {"item": "z"}),
        (404, "no target behind 999 events", {"at": 999}),
        (400, "parameter at is", {"at": "-1"}),
        (400, "parameter popular is", {"popular": 1000}),
        (400, "either a user or the items of a history", {"history": 'i7"><b>'}),
        (400, "either a user or the items of a history", {"user": " "}),
        (400, "at most 2,000 past items and 200 candidates", {"candidates": "1," * 201}),
    ],
)
def test_what_cannot_be_shown_is_one_sentence(page, longest, status, words, parameters):
    if "history" not in parameters or status == 400:
        parameters = {"user": longest, **parameters}
    answer = page(**parameters)
    assert answer.status_code == status
    (sentence,) = re.findall('<p role="alert">(.*?)</p>', answer.text)
    assert words in sentence
    assert sentence.endswith(".")


def test_a_candidate_that_is_none_any_more_leaves_the_ranking(page, longest):
    first, *_ = (item for _, item, *_ in ranked(page(user=longest).text))
    others = [f'i{number}"><b>' for number in (4, 5, 6) if f'i{number}"><b>' != first][:2]
    answer = page(user=longest, item=first, candidates=",".join(others))
    assert answer.status_code == 404
    assert "is not among the candidates" in answer.text
    assert sorted(item for _, item, *_ in ranked(answer.text)) == others


def test_what_was_typed_can_be_corrected(page):
    text = page(history="i7,x", candidates="y").text
    assert 'name="history" autocomplete="off" required value="i7,x"' in text
    assert 'value="y"' in text


def test_a_model_that_reads_none_of_the_events_still_ranks(explored):
    config = ModelConfig(5, (), (7,), behavior_types=("buy",))
    model = registry.make_model("din", explored.data.schema, config)
    buyers = explorer.Explorer(
        explored.data, {"din": explorer.ExploredModel(model, MAX_HISTORY)}, "test"
    )
    query = histories.Query(history=('i7"><b>', 'i9"><b>'))  # typed events are clicks
    assert np.isfinite(buyers.ranking("din", query).probabilities).all()
    assert buyers.pictures("din", query, 0) == ()


def test_pages_that_do_not_exist_are_answered_by_a_page(page):
    for path in ("/../etc/passwd", "/docs", "/openapi.json", "/picture.png/x"):
        answer = page(path)
        assert answer.status_code == 404
        assert "There is no such page." in answer.text
    assert page("/picture.png", picture="x", history="y").status_code == 404


def test_a_picture_of_another_name_is_none_of_a_path(page, longest):
    item = ranked(page(user=longest).text)[0][1]
    answer = page("/picture.png", user=longest, item=item, picture="../../secret")
    assert answer.status_code == 404


def test_a_fault_is_a_page_too(explored, monkeypatch, page):
    def fail(*_):
        raise ValueError("of a model")

    monkeypatch.setattr(explored, "ranking", fail)
    answer = page(user=next(iter(explored.users.rows)))
    assert answer.status_code == 500
    assert "This should not happen" in answer.text
    assert "of a model" not in answer.text
    assert "default-src 'none'" in answer.headers["Content-Security-Policy"]


@pytest.fixture(scope="module")
def pages(page, longest):
    """Every kind of page, with markup in ids of the data and of the request."""
    item = ranked(page(user=longest).text)[0][1]
    return [
        page("/", order="user"),
        page("/", order=SCRIPT),
        page(user=longest, compare="mimn", item=item),
        page(user=SCRIPT),
        page(history=f"i7,{SCRIPT}", candidates=SCRIPT),
        page(user=longest, model=SCRIPT),
        page(user=longest, item=SCRIPT),
        page(user=longest, candidates='i4"><b>'),
    ]


def test_ids_are_text_wherever_they_stand(pages):
    for answer in pages:
        assert "<script" not in answer.text
        assert '"><b>' not in answer.text
    assert "u7&lt;script&gt;" in pages[0].text
    assert "&amp;amp;" in pages[2].text


def test_pages_load_nothing_from_elsewhere_and_forbid_it(pages, page):
    for answer in (*pages, page("/style.css")):
        assert not re.search(r"https?://|@import|url\(|javascript:|\bon\w+=|style=", answer.text)
        policy = answer.headers["Content-Security-Policy"]
        assert policy.startswith("default-src 'none'; style-src 'self'; img-src 'self';")
        assert "unsafe" not in policy
    for link in re.findall('(?:href|src|action)="(.*?)"', "".join(a.text for a in pages)):
        assert link.startswith(("/", "#"))
        assert not link.startswith("//")


def test_users_are_listed_with_their_events_and_all_are_reached(explored, page):
    text = page("/", order="events").text
    rows = re.findall("<tr><td><a[^>]*>(.*?)</a></td><td>(.*?)</td>", text)
    expected = {row.raw_id: row.events for row in explored.users.rows.values()}
    assert {html.unescape(user): int(events) for user, events in rows} == expected
    counts = [int(events) for _, events in rows]
    assert counts == sorted(counts, reverse=True)
    assert page("/", page=9).text.count("<tr><td>") == len(expected)  # the last page


def test_a_model_at_work_keeps_nobody_else_waiting(explored, page, monkeypatch):
    started, go_on, traced = threading.Event(), threading.Event(), explorer.traces.trace

    def trace(model, batch):
        if model is explored.models["din"].model:
            started.set()
            assert go_on.wait(60)
        return traced(model, batch)

    monkeypatch.setattr(explorer.traces, "trace", trace)
    user = next(iter(explored.users.rows))
    waiting = threading.Thread(target=page, kwargs={"user": user, "popular": 3, "model": "din"})
    waiting.start()
    assert started.wait(60)
    assert page("/").status_code == 200
    assert page(user=user, popular=3, model="mimn").status_code == 200
    assert waiting.is_alive()
    go_on.set()
    waiting.join(60)


def test_a_port_in_use_is_said_to_be(explored):
    with server.listen("127.0.0.1", 0) as listener:
        port = listener.server_address[1]
        with pytest.raises(OSError, match=f"port {port} of 127.0.0.1 is in use; give another"):
            server.listen("127.0.0.1", port)


@pytest.fixture(scope="module")
def served(explored):
    """Address of the page as uvicorn serves it."""
    with server.listen("127.0.0.1", 0) as listener:
        site = uvicorn.Server(uvicorn.Config(app.make_app(explored), log_level="warning"))
        thread = threading.Thread(target=site.run, kwargs={"sockets": [listener.socket]})
        thread.start()
        yield f"http://127.0.0.1:{listener.server_address[1]}"
        site.should_exit = True
        thread.join(30)


# Width of the content and of the window, and pictures that are loaded and that there are.
LAYOUT = """[document.documentElement.scrollWidth, innerWidth,
    [...document.images].filter(image => image.naturalWidth).length, document.images.length]"""


@pytest.mark.slow
@pytest.mark.parametrize("width", [1280, 420])
def test_a_person_clicks_from_the_list_to_what_is_behind_a_candidate(served, width):
    with Tab(width) as tab:
        tab.open(served)
        user = tab.value("document.querySelector('table a').innerText")
        tab.click("table a")
        assert tab.value("document.querySelector('h1').innerText") == f"User {user}"
        hidden = "document.querySelector('details .days').checkVisibility()"
        assert not tab.value(hidden)
        tab.click("summary", loads=False)
        assert tab.value(hidden)
        tab.value("document.querySelector('[name=compare]').value = 'mimn'")
        tab.click("form button")
        assert tab.value("document.querySelectorAll('.ranking').length") == 2
        tab.click(".ranking tr:nth-child(3) a")
        chosen = tab.value("document.querySelector('.chosen a').innerText")
        assert tab.value("document.querySelector('#behind').innerText") == f"Behind {chosen}"
        assert tab.value("location.hash") == "#behind"
        page_width, window, loaded, images = tab.value(LAYOUT)
        assert (page_width, loaded) == (window, images) == (width, 4)
        shared, text = tab.value("location.href"), tab.value("document.body.innerText")
        assert tab.complaints() == []
        assert all(address.startswith(served) for address in tab.requests()[1:])
    with Tab(width, dark=True) as other:  # of somebody who got the link
        other.open(shared)
        assert other.value("document.body.innerText") == text
        color = "getComputedStyle(document.body).backgroundColor"
        assert other.value(color) == "rgb(22, 27, 33)"


@pytest.mark.slow
def test_a_person_with_a_keyboard_types_ids(served):
    with Tab(420) as tab:
        tab.open(served)
        tab.value("document.querySelector('[name=history]').focus()")
        tab.type('i7"><b>, i9"><b>')
        tab.press("Tab")
        tab.type('i4"><b>,i5"><b>')
        tab.press("Enter", loads=True)
        assert tab.value("document.querySelectorAll('.ranking tr').length") == 1 + 2
        tab.value("document.querySelector('.ranking a').focus()")
        tab.press("Enter", loads=True)
        assert tab.value("document.querySelectorAll('img').length") == 1
        assert tab.value("document.querySelector('b')") is None


@pytest.mark.slow
def test_the_command_serves_a_run_until_it_is_interrupted(explored, tmp_path):
    config = defaults.get_config("base_model")
    config.loop.epochs = 1
    data_dir = explored.data.data_dir
    runs.train_seeds(config, data_dir, tmp_path / "run", [1])
    flags = (f"--data_dir={data_dir}", f"--model_dirs=base={tmp_path}/run", "--port=0")
    command = subprocess.Popen(
        [sys.executable, "-m", "experiments", "explore", *flags],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env={**os.environ, "CUDA_VISIBLE_DEVICES": ""},
    )
    address = command.stdout.readline().removeprefix("explore on ").strip()
    user = next(iter(explored.users.rows))
    assert ranked(httpx.get(f"{address}/rank", params={"user": user}).text)
    command.send_signal(signal.SIGINT)
    assert command.wait(60) == INTERRUPTED
    assert command.stderr.read() == "interrupted.\n"
