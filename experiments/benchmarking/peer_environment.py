"""Virtual environment of a peer, apart from ours, since their requirements conflict."""

import pathlib
import subprocess
import sys
import venv
from importlib import metadata

from dgin_tf.ownership import claim

MARKER = "benchmark_peer.txt"
PEER_PACKAGES = {"deepctr": ("deepctr",)}


def ensure(peer: str, folder: pathlib.Path) -> str:
    """Creates the environment unless it exists; returns the path of its Python.

    It has our versions of TensorFlow and tf_keras, so that both sides run the same kernels.

    Raises:
      ValueError: the folder is somebody else's.
      RuntimeError: pip could not install the peer.
    """
    python = folder / "bin" / "python"
    marker = folder / MARKER
    requirements = [f"{name}=={metadata.version(name)}" for name in ("tensorflow", "tf_keras")]
    requirements += PEER_PACKAGES[peer]
    if marker.is_file() and marker.read_text().split() == requirements:
        return str(python)
    if not marker.is_file():  # creating it empties the folder
        claim(folder.parent, "an environment of a peer", [folder.name])
    venv.EnvBuilder(with_pip=True, clear=True).create(folder)
    command = [str(python), "-m", "pip", "install", "--quiet", *requirements]
    done = subprocess.run(command, stdout=sys.stderr, stderr=subprocess.PIPE, text=True)
    if done.returncode:
        words = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise RuntimeError(f"pip could not install {' '.join(requirements)} into {folder}: {words}")
    marker.write_text("\n".join(requirements) + "\n")
    return str(python)
