"""Commands that README and docs/ show: they name what exists, and they run in the order of their page."""

import ast
import functools
import gzip
import importlib.util
import lzma
import pathlib
import re
import shlex

import pytest

from experiments.running import configs, sweeps
from tests.data_prep import logs
from tests.data_prep.layouts import write_layouts
from tests.pages import PAGES, ROOT, Reader, blocks

LANGUAGES = ("bash", "console")
SHOWN = [
    pytest.param(command.removeprefix("$ "), id=f"{page.stem}-{block.line}-{number}")
    for page in PAGES
    for block in blocks(page, *LANGUAGES)
    for number, command in enumerate(block.commands())
]
HAS_COMMANDS = [page for page in PAGES if blocks(page, "bash")]
OUR_PACKAGES = ("dgin_tf", "data_prep", "experiments")


def module_of(words):
    """The module of ours that a command runs, and its arguments; None where it runs none."""
    if words[:1] == ["dgin"]:
        from experiments.__main__ import commands

        return commands()[words[1]], words[2:]
    for before, module in zip(words, words[1:], strict=False):
        if before == "-m" and module.split(".")[0] in OUR_PACKAGES:
            return module, words[words.index(module) + 1 :]
    return None


@functools.cache
def source_of(module):
    spec = importlib.util.find_spec(module)
    assert spec is not None, f"there is no module {module}"
    path = pathlib.Path(spec.origin)
    return path.with_name("__main__.py") if path.name == "__init__.py" else path


@functools.cache
def flags_of(path):
    """Names of the flags that a source file and what it imports from flag modules define."""
    text = path.read_text(encoding="utf-8")
    names = set(re.findall(r'(?:DEFINE_\w+|\binteger)\(\s*"(\w+)"', text))
    if "configs.define_config()" in text:
        names.add("config")
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.ImportFrom) and node.module in ("experiments.running", "data_prep"):
            for alias in node.names:
                used = ROOT / node.module.replace(".", "/") / f"{alias.name}.py"
                names |= flags_of(used) if used.is_file() else set()
    return names


def value_of(arguments, flag):
    values = [a.partition("=")[2] for a in arguments if a.startswith(f"--{flag}=")]
    return values[-1] if values else None


@functools.cache
def load_config(name):
    path, _, model = configs.find(name).partition(":")
    spec = importlib.util.spec_from_file_location("shown_config", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.get_config(*([model] if model else []))


@pytest.mark.parametrize("command", SHOWN)
def test_a_shown_command_names_a_module_and_flags_that_exist(command):
    found = module_of(shlex.split(command, comments=True))
    if found is None:
        return
    module, arguments = found
    known = flags_of(source_of(module)) | {"help"}
    for argument in arguments:
        if not argument.startswith("--") or argument.startswith("--config."):
            continue
        name = argument.removeprefix("--").partition("=")[0]
        assert name in known or name.removeprefix("no") in known, f"{module} has no --{name}"


@pytest.mark.parametrize("command", [c for c in SHOWN if "experiments.train" in c.values[0]])
def test_a_shown_config_has_the_settings_that_are_changed(command):
    _, arguments = module_of(shlex.split(command, comments=True))
    config = load_config(value_of(arguments, "config"))
    for argument in arguments:
        if argument.startswith("--config."):
            parent, names = config, argument.partition("=")[0].split(".")[1:]
            for name in names[:-1]:
                parent = parent[name]
            assert names[-1] in parent, argument
    if grid := value_of(arguments, "sweep"):
        for point in sweeps.grid(grid):
            sweeps.configure(config, point)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_a_page_links_to_files_that_exist(page):
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.M | re.S)
    targets = re.findall(r"\]\(([^)#\s]+)[^)]*\)", text)
    local = [target for target in targets if "://" not in target]
    assert [target for target in local if not (page.parent / target).exists()] == []


def test_every_page_is_in_the_sites_navigation():
    navigation = (ROOT / "mkdocs.yml").read_text(encoding="utf-8").partition("nav:")[2]
    listed = re.findall(r": ([\w/]+\.md)$", navigation, re.MULTILINE)
    pages = [p.relative_to(ROOT / "docs").as_posix() for p in PAGES if p.name != "README.md"]
    assert sorted(listed) == sorted(pages)


def write_logs(folder):
    """The logs that pages take for granted, tiny, under the names that the pages give them."""
    write_layouts(folder)
    rows = logs.rows_of(users=60, events=20, items=40, seed=5)
    taobao = logs.text_of(rows)
    (folder / "UserBehavior.csv").write_bytes(taobao)
    (folder / "UserBehavior.csv.xz").write_bytes(lzma.compress(taobao))
    lines = [f"{u}::{i}::{1 + i % 5}::{t}\n" for u, i, _, _, t in rows]
    (folder / "ratings.dat").write_text("".join(lines))
    movies = {i: f"{i}::Movie {i}::Genre{c}|Other\n" for _, i, c, _, _ in rows}
    (folder / "movies.dat").write_text("".join(movies.values()))
    users = {u: f"{u}::{'MF'[u % 2]}::25::4::0{u}\n" for u, *_ in rows}
    (folder / "users.dat").write_text("".join(users.values()))
    reviews = [
        f'{{"reviewerID": "A{u}", "asin": "B{i}", "overall": 5.0, "unixReviewTime": {t}}}\n'
        for u, i, _, _, t in rows
    ]
    (folder / "reviews_Books_5.json.gz").write_bytes(gzip.compress("".join(reviews).encode()))
    metas = {
        i: f"{{'asin': 'B{i}', 'categories': [['Books', 'c{c}']]}}\n" for _, i, c, _, _ in rows
    }
    (folder / "meta_Books.json.gz").write_bytes(gzip.compress("".join(metas.values()).encode()))
    actions = {"pv": "view", "cart": "cart", "fav": "view", "buy": "buy"}
    table = [f"u{u},sku-{i},shelf {c},{actions[b]},{t}\n" for u, i, c, b, t in rows]
    (folder / "events.csv").write_text("uid,sku,shelf,action,ts\n" + "".join(table))
    labels = [f"u{u},sku-{i},{int(b == 'pv')},{t}\n" for u, i, _, b, t in rows]
    (folder / "impressions.csv").write_text("uid,sku,clicked,ts\n" + "".join(labels))


@pytest.mark.slow
@pytest.mark.parametrize("page", HAS_COMMANDS, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_the_blocks_of_a_page_run_in_order(page, tmp_path):
    write_logs(tmp_path)
    Reader(tmp_path).follow(page)


def test_the_site_names_no_font_or_script_of_a_network():
    settings = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    assert "font: false" in settings
    assert "http" not in settings
    assert "- offline" not in settings  # the plugin adds a script from a network


def test_every_package_is_in_the_reference():
    shown = {
        name
        for page in (ROOT / "docs/api").glob("*.md")
        for name in re.findall(r"^::: ([\w.]+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    }
    parts = {
        f"dgin_tf.{path.stem}"
        for path in (ROOT / "dgin_tf").iterdir()
        if path.suffix == ".py" or (path / "__init__.py").is_file()
    }
    # Commands are described by their pages and by --help.
    assert parts - shown == {"dgin_tf.__init__", "dgin_tf.commands"}
