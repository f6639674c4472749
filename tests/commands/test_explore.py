"""The command that serves the page of users refuses in one sentence what it cannot show."""

import pytest

DATA = "--data_dir={}/data"


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ((DATA, "--model_dirs=run"), "expected runs as NAME=PATH in --model_dirs; got 'run'."),
        ((DATA, "--model_dirs=a={}/run,a={}/run"), "expected runs of different names; 'a' occurs"),
        ((DATA, "--model_dirs=a={}/none"), "expected a trained run in"),
        (("--data_dir={}/none", "--model_dirs=a={}/run"), "expected a prepared data set with"),
        ((DATA, "--model_dirs=a={}/run", "--port=65536"), "--port=65536"),
        ((DATA, "--model_dirs=a={}/run", "--split=tomorrow"), "--split=tomorrow"),
    ],
)
def test_what_cannot_be_shown_is_one_sentence(commands, world, flags, words):
    ended = commands.run("experiments.explore", *(f.replace("{}", str(world)) for f in flags))
    assert ended.returncode == 2, ended.text
    (sentence,) = ended.errors
    assert words in sentence
