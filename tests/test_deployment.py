"""Tests of the files in docs/deployment: what they say about our commands and bundles is so."""

import pathlib
import re
import shutil
import subprocess

import pytest
import yaml

from dgin_tf.serving.export.bundle import write_configs

FOLDER = pathlib.Path(__file__).parents[1] / "docs" / "deployment"
UNIT = FOLDER / "dgin-serve@.service"


def flags_of_serve():
    source = (FOLDER.parents[1] / "experiments" / "serve.py").read_text(encoding="utf-8")
    shared = (FOLDER.parents[1] / "experiments" / "running" / "store_flags.py").read_text("utf-8")
    return set(re.findall(r'DEFINE_\w+\(\s*"(\w+)"', source + shared))


def flags_in(text):
    return set(re.findall(r"--(\w+)", text))


def test_the_compose_file_names_flags_that_the_command_has():
    services = yaml.safe_load((FOLDER / "compose.yaml").read_text(encoding="utf-8"))["services"]
    assert set(services) == {"tf_serving", "redis", "ranker", "prometheus"}
    command, *flags = services["ranker"]["command"]
    assert command == "serve"
    assert flags_in(" ".join(flags)) <= flags_of_serve()
    assert set(services["ranker"]["depends_on"]) <= set(services)


def test_prometheus_asks_where_the_bundle_says(tmp_path):
    write_configs(tmp_path, "din")
    (path,) = re.findall(r'path: "(.*)"', (tmp_path / "monitoring.config").read_text())
    jobs = yaml.safe_load((FOLDER / "prometheus.yaml").read_text(encoding="utf-8"))
    assert {job["metrics_path"] for job in jobs["scrape_configs"]} == {path}


def test_the_unit_names_flags_that_the_command_has():
    text = UNIT.read_text(encoding="utf-8")
    (command,) = re.findall(r"ExecStart=((?:.*\\\n)*.*)", text)
    assert " serve " in command
    assert flags_in(command) <= flags_of_serve()


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="needs systemd-analyze")
def test_systemd_finds_no_fault_in_the_unit(tmp_path):
    # The program is not where the unit has it on this machine.
    text = UNIT.read_text(encoding="utf-8").replace("/opt/dgin/.venv/bin/dgin", "/bin/true")
    unit = tmp_path / "dgin-serve@mimn.service"
    unit.write_text(text, encoding="utf-8")
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(unit)], capture_output=True, text=True
    )
    assert [line for line in done.stderr.splitlines() if unit.name in line] == []


def test_genuine_protos_parse_the_configs_of_a_bundle(tmp_path):
    text_format = pytest.importorskip("google.protobuf.text_format")
    config = pytest.importorskip("tensorflow_serving.config.model_server_config_pb2")
    write_configs(tmp_path, "din")
    models = text_format.Parse((tmp_path / "models.config").read_text(), config.ModelServerConfig())
    assert models.model_config_list.config[0].name == "din"
    assert models.model_config_list.config[0].base_path == str(tmp_path)


def test_the_roll_out_in_the_page_is_a_config_of_the_server():
    text_format = pytest.importorskip("google.protobuf.text_format")
    config = pytest.importorskip("tensorflow_serving.config.model_server_config_pb2")
    page = (FOLDER.parent / "deployment.md").read_text(encoding="utf-8")
    (text,) = re.findall(r"```text\n(model_config_list.*?)```", page, re.DOTALL)
    entry = text_format.Parse(text, config.ModelServerConfig()).model_config_list.config[0]
    assert dict(entry.version_labels) == {"stable": 7, "canary": 8}
