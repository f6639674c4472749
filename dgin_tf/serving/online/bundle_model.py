"""An exported version, loaded by plain TensorFlow, that takes histories and candidates as a caller has them."""

import functools
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from dgin_tf.records import Arrays, load_catalogue
from dgin_tf.schema import (
    CONTEXT,
    ITEM,
    PADDING_ID,
    UNKNOWN_ID,
    USER,
    Field,
    Schema,
    feature_name,
)
from dgin_tf.serving.export.versions import ASSETS, open_bundle
from dgin_tf.serving.export.vocabularies import Vocabularies
from dgin_tf.serving.online.functions import Functions, LocalFunctions

Values = Mapping[str, Any] | Sequence[Any] | np.ndarray
Profile = Mapping[str, Any]  # field of the user or the request -> its one value


class BundleModel:
    """Signatures of one version, with the inputs that they need.

    Histories and candidates are mappings of field name -> values (`{"item_id": [...], "timestamp":
    [...]}`); a bare sequence means item ids. Events are oldest first. Fields of an item that the bundle's
    catalogue has, such as its category, may be left out.

    Args:
      bundle: base path of the exported versions, or the directory of one version.
      schema: of the caller's ids, to be compared with the bundle's; None to compare nothing.
      functions: those of the version's signatures, such as behind TF Serving's address; None to load them.

    Raises:
      FileNotFoundError: there is no bundle.
      ValueError: the bundle was exported under another schema, or is not one of ours.
    """

    def __init__(
        self,
        bundle: str | os.PathLike,
        schema: Schema | None = None,
        functions: Functions | None = None,
    ):
        self.version_dir, self.metadata = open_bundle(bundle)
        self.name = self.metadata["name"]
        self.schema = Schema.load(self.version_dir / ASSETS)
        if schema is not None and schema.fingerprint() != self.schema.fingerprint():
            raise ValueError(
                f"expected a bundle of schema {schema.fingerprint()}; the one in "
                f"{self.version_dir} was exported under {self.schema.fingerprint()}. Export the model "
                "that was trained on these data."
            )
        self._functions = functions or LocalFunctions.load(self.version_dir)
        self.inputs = {
            signature: {
                name: tf.TensorSpec(spec["shape"], spec["dtype"], name)
                for name, spec in description["inputs"].items()
            }
            for signature, description in self.metadata["signatures"].items()
        }

    @property
    def assets(self) -> pathlib.Path:
        """Folder of the catalogue and the vocabularies."""
        return pathlib.Path(self.metadata["assets_dir"] or self.version_dir / ASSETS)

    @functools.cached_property
    def catalogue(self) -> Mapping[str, np.ndarray]:
        """Field name -> attribute of every item id, [items]."""
        return load_catalogue(self.assets)

    @functools.cached_property
    def vocabularies(self) -> Vocabularies:
        """Dense ids of raw ones."""
        return Vocabularies(self.assets)

    def reads(self, field: Field) -> bool:
        """True where a signature has the field among its inputs, or a history is searched by it."""
        search = self.metadata["history_slice"] or self.metadata["groups"]
        names = {feature_name(role, field) for role in field.roles}
        return any(names & set(inputs) for inputs in self.inputs.values()) or bool(
            search and search["key"] == field.name
        )

    def features(
        self, role: str, values: Values, signature: str, newest: int | None = None
    ) -> Arrays:
        """A role's inputs of a signature for one user, [1, length].

        Args:
          role: history or candidate.
          values: as for the class.
          signature: name.
          newest: how many of the newest events count; None for all.

        Raises:
          ValueError: a field that the model reads is missing, or fields differ in length.
        """
        features = {}
        for field in self.schema.with_role(role):
            name = feature_name(role, field)
            if name in self.inputs[signature]:
                column = self.column(role, field, values)
                if newest is not None:
                    column = column[max(len(column) - newest, 0) :]
                features[name] = pad_row(column, field.dtype)
        return features

    def context_features(self, context: Profile | None, signature: str) -> Arrays:
        """The request's inputs of a signature, [1, ...] each, from one value of each context field.

        Raises:
          ValueError: a field that the model reads is missing.
        """
        return self._of_row(CONTEXT, context or {}, signature)

    def column(self, role: str, field: Field, values: Values) -> np.ndarray:
        """One field, from the values or the catalogue, [length, ...]; ids beyond the vocabulary are unknown."""
        # One value is a list of one: [] -> [length].
        columns = by_field(values)
        if ITEM not in columns:
            raise ValueError(
                f"expected {ITEM} among the fields of the {role}; got {sorted(columns)}."
            )
        # One value is a list of one: [] -> [length].
        items = np.asarray(columns[ITEM]).reshape(-1).astype(np.int64)
        if field.name in columns:
            column = fixed_width(columns[field.name], field)
            if len(column) != len(items):
                raise ValueError(
                    f"expected one {field.name} for each of {len(items)} items of the {role}; got "
                    f"{len(column)}."
                )
        elif field.name in self.catalogue:
            attributes = self.catalogue[field.name]
            in_catalogue = (items >= 0) & (items < len(attributes))
            column = attributes[np.where(in_catalogue, items, UNKNOWN_ID)]
        else:
            raise ValueError(
                f"model {self.name!r} reads {field.name} of the {role}, which the "
                f"catalogue does not know; give it beside {ITEM}."
            )
        if field.is_categorical:
            size = self.schema.vocabulary_sizes[field.vocabulary]
            column = np.where((column >= 0) & (column < size), column, UNKNOWN_ID)
        return column

    def user_features(self, profile: Profile | None, signature: str) -> Arrays:
        """The user's inputs of a signature, [1, ...] each, from one value of each user field.

        Raises:
          ValueError: a field that the model reads is missing.
        """
        return self._of_row(USER, profile or {}, signature)

    def _of_row(self, role: str, values: Profile, signature: str) -> Arrays:
        features = {}
        for field in self.schema.with_role(role):
            name = feature_name(role, field)
            if name in self.inputs[signature]:
                if field.name not in values:
                    owner = "user" if role == USER else "request"
                    raise ValueError(
                        f"model {self.name!r} reads {field.name} of the {owner}; give it."
                    )
                value = fixed_width([values[field.name]], field)
                if field.is_categorical:
                    # Users that the vocabulary lacks have numbers in stores that no tensor holds.
                    size = self.schema.vocabulary_sizes[field.vocabulary]
                    value = np.where(value >= size, UNKNOWN_ID, value)
                features[name] = value.astype(field.dtype)
        return features

    def run(self, signature: str, inputs: Mapping[str, Any]) -> Arrays:
        """Outputs of a signature as arrays."""
        return {name: np.asarray(value) for name, value in self.call(signature, inputs).items()}

    def call(self, signature: str, inputs: Mapping[str, Any]) -> Mapping[str, Any]:
        """Outputs of a signature for arrays, or for what another signature gave."""
        specs = self.inputs[signature]
        values = {
            name: value
            if isinstance(value := inputs[name], tf.Tensor)
            else np.asarray(value, spec.dtype.as_numpy_dtype)
            for name, spec in specs.items()
        }
        return self._functions(signature, values)


def by_field(values: Values) -> Mapping[str, Any]:
    """Columns by field name; a bare sequence is the column of item ids."""
    return values if isinstance(values, Mapping) else {ITEM: values}


def pad_row(values: np.ndarray, dtype: Any) -> np.ndarray:
    """[length, ...] -> [1, length, ...], with one column of padding for an empty list."""
    # Not every operation takes an empty axis.
    row = np.zeros((1, max(len(values), 1), *values.shape[1:]), dtype)
    row[0, : len(values)] = values
    return row


def fixed_width(values: Any, field: Field) -> np.ndarray:
    """Values of a field as an array [length, ...]; lists of several ids are padded or cut to one width."""
    if field.values == 1:
        return np.asarray(values).reshape(-1)
    rows = np.full((len(values), field.values), PADDING_ID, field.dtype)
    for row, ids in zip(rows, values, strict=True):
        ids = np.atleast_1d(np.asarray(ids))[: field.values]
        row[: len(ids)] = ids
    return rows
