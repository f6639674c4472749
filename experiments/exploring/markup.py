"""HTML in which every text is escaped, because elements alone are made without escaping."""

import html

_VOID = ("img", "input", "link", "meta")  # without content and end tag


class Markup(str):
    """HTML that was escaped already; any other text is escaped where it enters an element."""


def element(name: str, /, *content: str | None, **attributes: str | int | bool | None) -> Markup:
    """Makes an element.

    Args:
      name: of the tag.
      *content: elements, and texts, which are escaped; None is left out.
      **attributes: values are escaped; False and None leave an attribute out, True is one without a value.
        An underscore at the end is dropped (`class_`), any other is a hyphen.
    """
    tag = name
    for key, value in attributes.items():
        if value is None or value is False:
            continue
        tag += f" {key.rstrip('_').replace('_', '-')}"
        if value is not True:
            tag += f'="{html.escape(str(value))}"'
    return Markup(f"<{tag}>" if name in _VOID else f"<{tag}>{join(*content)}</{name}>")


def join(*content: str | None) -> Markup:
    """Elements and texts one after the other, texts escaped."""
    parts = [part for part in content if part is not None]
    return Markup(
        "".join(part if isinstance(part, Markup) else html.escape(part) for part in parts)
    )
