"""Exported versions on disk, and the names under which the user states of a version are stored."""

import os
import pathlib
from collections.abc import Mapping
from typing import Any

from dgin_tf.integrity import check_files, read_json
from dgin_tf.schema import HISTORY, Schema, feature_name
from dgin_tf.state_types import FLOAT32

ASSETS = "assets.extra"
METADATA_FILE = "model.json"
FILES = "files"  # in the metadata: sizes and checksums of the other files
FORMAT_VERSION = 2
_KEYS = {"name", "version", "schema_fingerprint", "max_history", "assets_dir", "signatures"}
_EXPORT = "export the model with python -m experiments.export"


def version_numbers(export_dir: str | os.PathLike) -> list[int]:
    """Numbers of the versions in a base path, rising; none where there is no such directory."""
    base = pathlib.Path(export_dir)
    if not base.is_dir():
        return []
    return sorted(int(path.name) for path in base.iterdir() if path.name.isdecimal())


def latest_version(export_dir: str | os.PathLike) -> pathlib.Path:
    """Directory of the newest version in a base path; raises FileNotFoundError where there is none."""
    numbers = version_numbers(export_dir)
    if not numbers:
        raise FileNotFoundError(
            f"expected exported versions (directories named 1, 2, ...) in {os.fspath(export_dir)!r}, "
            "found none; run python -m experiments.export with that --export_dir first."
        )
    return pathlib.Path(export_dir) / str(numbers[-1])


def open_bundle(bundle: str | os.PathLike) -> tuple[pathlib.Path, dict[str, Any]]:
    """Directory and metadata of a version, given itself or the base path of several.

    Raises:
      FileNotFoundError: there is no version.
      ValueError: the version was not exported by this version of the package, or one of its files is
        damaged.
    """
    version = pathlib.Path(bundle)
    if not (version / "saved_model.pb").is_file():
        version = latest_version(bundle)
    path = version / ASSETS / METADATA_FILE
    metadata = read_json(path, "the description of an export", _EXPORT)
    if metadata.get("format_version") != FORMAT_VERSION:
        raise ValueError(
            f"{version} is an export of format {metadata.get('format_version')}, but this version of "
            f"dgin_tf reads {FORMAT_VERSION}; export the model again."
        )
    if missing := sorted(_KEYS - set(metadata)):
        raise ValueError(f"expected {missing} in {path}, which is damaged; {_EXPORT}.")
    # None where a version before 0.7 exported it.
    check_files(version, metadata.get(FILES, {}), _EXPORT)
    return version, metadata


def history_fields_read(metadata: Mapping[str, Any], schema: Schema) -> set[str]:
    """Names of the history fields that an exported version reads, given its `model.json` and schema.

    A model with groups reads all of them, some in statistics that are counted ahead of requests.
    """
    fields = schema.with_role(HISTORY)
    if metadata["groups"]:
        return {field.name for field in fields}
    inputs = {name for signature in metadata["signatures"].values() for name in signature["inputs"]}
    search = metadata["history_slice"] or {}
    return {
        f.name for f in fields if feature_name(HISTORY, f) in inputs or f.name == search.get("key")
    }


def state_namespace(metadata: Mapping[str, Any]) -> str:
    """Namespace of a version's user states in a store, given its `model.json`: name and number."""
    return f"{metadata['name']}.{metadata['version']}"


def state_version(metadata: Mapping[str, Any]) -> str:
    """Name, number and a digest of weights and settings: the version that a stored state belongs to.

    Numbers alone do not tell versions apart: an export directory may be deleted and begun anew.
    """
    return f"{state_namespace(metadata)}.{metadata.get('weights_digest', '')}"


def state_type(metadata: Mapping[str, Any]) -> str:
    """Number type that a version's states are stored in, of `dgin_tf.state_types`."""
    return metadata.get("state_type", FLOAT32)  # which versions before 0.7 do not say


def value_header(metadata: Mapping[str, Any]) -> dict[str, str]:
    """Model version and schema of a stored value, for `encode_value` and `decode_value`."""
    return {"model_version": state_version(metadata), "schema": metadata["schema_fingerprint"]}
