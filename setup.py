"""Installs dgin_tf: click-through-rate models over a user's whole history, and the command `dgin`."""

import setuptools

# Upper bounds are the next major version; TensorFlow and Keras 2 change within minor ones what the
# training loop relies on. `constraints.txt` has the very versions that tests and results are of.
_SERVE = [
    "tensorflow-serving-api>=2.19,<2.22",
    "grpcio>=1.60,<2",
    "lmdb>=1.4,<4",
    "redis>=5,<9",
    "fastapi>=0.110,<1",
    "uvicorn>=0.29,<1",
]

setuptools.setup(
    name="dgin_tf",
    version="0.6.0",
    description="DIEN, MIMN, SIM, ENCODE and DGIN in TensorFlow/Keras, from raw logs to a served model",
    packages=setuptools.find_packages(include=["dgin_tf*", "data_prep*", "experiments*"]),
    package_data={
        "": ["py.typed"],
        "experiments": ["notebooks/*.ipynb"],
    },
    entry_points={"console_scripts": ["dgin = experiments.__main__:main"]},
    python_requires=">=3.11",
    install_requires=[
        "tensorflow>=2.21,<2.22",
        "tf-keras>=2.21,<2.22",
        "tensorboard>=2.19,<2.22",
        "tensorflow-recommenders>=0.7.7,<0.8",
        "numpy>=1.26,<3",
        "pandas>=2.2,<4",
        "pyarrow>=15,<27",
        "absl-py>=2.1,<3",
        "ml_collections>=1.0,<2",
        "matplotlib>=3.8,<4",
        "tqdm>=4.66,<5",
        "google-crc32c>=1.5,<2",
        "scipy>=1.11,<2",
        "pillow>=10,<14",
    ],
    extras_require={
        "serve": _SERVE,
        # The site of docs/: `mkdocs build --strict`.
        "docs": [
            "mkdocs>=1.6,<2",
            "mkdocs-material>=9.6,<10",
            "mkdocstrings[python]>=1,<2",
        ],
        "dev": [
            *_SERVE,
            "pytest>=8,<10",
            "pytest-xdist>=3.5,<4",
            "hypothesis>=6,<7",
            "httpx>=0.27,<0.29",
            "ruff>=0.15,<0.18",
            "mypy>=1.15,<3",
            "pandas-stubs>=2.2,<4",
            "nbclient>=0.10,<1",
            "nbformat>=5,<6",
            "ipykernel>=6,<8",
        ],
    },
)
