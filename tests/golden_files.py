"""Where the golden vectors are, and the tolerance under which they are compared."""

import os
import pathlib

import numpy as np

_HERE = pathlib.Path(__file__).parent / "golden"


def load(stem: str) -> dict[str, np.ndarray]:
    """Arrays of `<stem>.npz` in `DGIN_GOLDEN_DIR`, or in tests/golden where that is not set."""
    with np.load(pathlib.Path(os.environ.get("DGIN_GOLDEN_DIR", _HERE)) / f"{stem}.npz") as file:
        return dict(file)


def weights(arrays: dict[str, np.ndarray], prefix: str) -> dict[str, np.ndarray]:
    """Weights whose name starts with `w_` + prefix, by the rest of their name."""
    prefix = f"w_{prefix}"
    return {k.removeprefix(prefix): v for k, v in arrays.items() if k.startswith(prefix)}


def hidden_units(weights: dict[str, np.ndarray]) -> tuple[int, ...]:
    """Widths of the hidden layers `dense1`, `dense2`, ...; the last dense layer is the output."""
    dense_layers = sum(name.startswith("dense") and name.endswith("_bias") for name in weights)
    return tuple(len(weights[f"dense{layer}_bias"]) for layer in range(1, dense_layers))


def assert_close(mine, golden, tolerance: float = 1e-5) -> None:
    """|mine - golden| <= tolerance * (1 + |golden|), and the shapes agree."""
    mine, golden = np.asarray(mine, np.float64), np.asarray(golden, np.float64)
    assert mine.shape == golden.shape, f"shape {mine.shape} instead of {golden.shape}"
    np.testing.assert_array_less(np.abs(mine - golden) / (1 + np.abs(golden)), tolerance)
