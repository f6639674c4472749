"""The export loads and runs through TensorFlow's C++ loader, which TF Serving uses, without Python."""

import pathlib
import shutil
import subprocess

import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2

SOURCE = pathlib.Path(__file__).with_name("c_loader.c")


@pytest.fixture(scope="module")
def program(tmp_path_factory):
    """The compiled loader."""
    if shutil.which("gcc") is None:
        pytest.skip("needs gcc")
    folder = pathlib.Path(tf.sysconfig.get_lib())
    libraries = [folder / "libtensorflow_cc.so.2", folder / "libtensorflow_framework.so.2"]
    if not all(library.exists() for library in libraries):
        pytest.skip("this TensorFlow has no C library")
    target = tmp_path_factory.mktemp("c") / "loader"
    include = f"-I{tf.sysconfig.get_include()}"
    # The default linker takes many seconds to read a library of a gigabyte.
    linker = ["-fuse-ld=gold"] if shutil.which("ld.gold") else []
    subprocess.run(
        [
            "gcc",
            str(SOURCE),
            include,
            *map(str, libraries),
            f"-Wl,-rpath,{folder}",
            *linker,
            "-o",
            target,
        ],
        check=True,
    )
    return target


def test_the_c_loader_scores_as_the_model(program, din):
    row = {name: value[5:6] for name, value in din.batch.items()}
    numbers = [
        row[name][0]
        for name in ("hist_item_id", "hist_category_id", "cand_item_id", "cand_category_id")
    ]
    text = "\n".join(" ".join(map(str, [len(ids), *ids])) for ids in numbers)
    output = tensor_name(din, "probabilities")
    process = subprocess.run(
        [program, str(din.version), *output.split(":")],
        input=text,
        capture_output=True,
        text=True,
        check=True,
    )
    np.testing.assert_allclose(
        [float(word) for word in process.stdout.split()], din.expected[5], atol=1e-6
    )


def tensor_name(bundle_export, output):
    """Name of an output's tensor in the saved graph."""
    content = saved_model_pb2.SavedModel.FromString(
        (bundle_export.version / "saved_model.pb").read_bytes()
    )
    return content.meta_graphs[0].signature_def["serving_default"].outputs[output].name
