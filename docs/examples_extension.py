"""Extension of griffe, which reads the docstrings of the reference: shows sections `Example:` as code."""

import re
from typing import Any

import griffe


class ExampleSections(griffe.Extension):
    """Writes `Example:` and an empty line, the form of Keras, as `Examples:`, which griffe formats."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Changes the docstring of a module, class, function or attribute."""
        if obj.docstring is not None:
            obj.docstring.value = re.sub(
                r"^Example:\n\n", "Examples:\n", obj.docstring.value, flags=re.MULTILINE
            )
