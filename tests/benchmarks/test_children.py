"""What a child of the benchmarks says, and when it counts as ready."""

from __future__ import annotations

import pytest

from benchmarks.children import ChildFailedError, child_process

SAY = "import sys; sys.stderr.write({!r}); sys.stderr.flush(); {}"


@pytest.mark.parametrize(
    "words", ["error: id already in use\n", "12:00 INFO nearly ready for work\n", "readying\n", ""]
)
async def test_a_word_that_contains_ready_is_no_readiness(words: str) -> None:
    async with child_process("child", ["-c", SAY.format(words, "sys.exit(3)")]) as child:
        with pytest.raises(ChildFailedError, match=r"^child ended with code 3; its last words: "):
            await child.ready()


async def test_a_child_that_ends_well_without_a_word_was_never_ready() -> None:
    async with child_process("child", ["-c", "pass"]) as child:
        with pytest.raises(ChildFailedError, match="code 0"):
            await child.ready()


async def test_a_line_that_begins_with_ready_is() -> None:
    text = "starting\nready id=w1 line=tiny/1.0\n"
    async with child_process("child", ["-c", SAY.format(text, "sys.stdin.read()")]) as child:
        await child.ready()


async def test_a_child_that_says_nothing_is_not_waited_for_beyond_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmarks.children._READY_LIMIT_S", 0.2)
    forever = "import signal; signal.pause()"
    async with child_process("child", ["-c", forever]) as child:
        with pytest.raises(ChildFailedError, match=r"^child is not ready after 0.2 s; its last words: nothing"):
            await child.ready()
