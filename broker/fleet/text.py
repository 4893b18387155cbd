"""Text from the wire made safe for a terminal, and colours for it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

_CODES: Final = {
    "grey": 90,
    "red": 31,
    "green": 32,
    "yellow": 33,
    "blue": 34,
    "magenta": 35,
    "cyan": 36,
}


def printable(text: str) -> str:
    r"""The text with every character that does not simply stand there written as an escape.

    Control characters, line ends, changes of direction and lone surrogates become `\x1b`, `\u202e` and so
    on, a backslash becomes two: what is shown is one line, and two different texts never look the same.
    """
    if text.isprintable() and "\\" not in text:
        return text
    return "".join(_escaped(character) for character in text)


def _escaped(character: str) -> str:
    if character.isprintable() and character != "\\":
        return character
    return character.encode("unicode_escape").decode("ascii")


def shortened(text: str, limit: int) -> str:
    """At most `limit` characters, three dots where some are missing."""
    return text if len(text) <= limit else text[: limit - 3] + "..."


def in_hex(data: bytes, limit: int) -> str:
    """The first `limit` bytes in hex, and how many more there are."""
    more = len(data) - limit
    return data[:limit].hex() + (f"... ({more} bytes more)" if more > 0 else "")


@dataclass(frozen=True, slots=True)
class Paint:
    """Colours of ANSI terminals; none at all unless `on`."""

    on: bool = False

    def __call__(self, text: str, colour: str) -> str:
        """The text in a colour of `_CODES`, and back to normal after it."""
        return f"\x1b[{_CODES[colour]}m{text}\x1b[0m" if self.on else text
