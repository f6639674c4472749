"""Installs dgin_tf: click-through-rate models over a user's whole history."""

import setuptools

setuptools.setup(
    name="dgin_tf",
    version="0.6.0",
    description="DIEN, MIMN, SIM, ENCODE and DGIN in TensorFlow/Keras, from raw logs to a served model",
    packages=setuptools.find_packages(include=["dgin_tf*", "data_prep*", "experiments*"]),
    package_data={"experiments": ["notebooks/*.ipynb"]},
    python_requires=">=3.11",
    install_requires=[
        "tensorflow>=2.21,<3",
        "tf-keras>=2.21,<3",
        "tensorboard>=2.19",
        "tensorflow-recommenders>=0.7.7",
        "numpy>=1.26",
        "pandas>=2.2",
        "pyarrow>=15",
        "absl-py>=2.1",
        "ml_collections>=1.0",
        "matplotlib>=3.8",
        "tqdm>=4.66",
        "google-crc32c>=1.5",
        "scipy>=1.11",
    ],
    extras_require={
        "serve": ["tensorflow-serving-api>=2.19", "grpcio", "lmdb", "redis"],
        # The site of docs/: `mkdocs build --strict`.
        "docs": [
            "mkdocs>=1.6,<2",
            "mkdocs-material>=9.6,<10",
            "mkdocstrings[python]>=1,<2",
        ],
        "dev": [
            "pytest>=8",
            "pytest-xdist>=3.5",
            "hypothesis>=6",
            "ruff",
            "mypy",
            "pandas-stubs",
            "nbclient",
            "nbformat",
            "ipykernel",
            "tensorflow-serving-api>=2.19",
            "grpcio",
            "lmdb",
            "redis",
        ],
    },
)
