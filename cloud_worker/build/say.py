"""How the steps of a build tell what they do."""

from __future__ import annotations

from collections.abc import Callable

Say = Callable[[str], None]
"""Gets one line for each step, without its end."""
