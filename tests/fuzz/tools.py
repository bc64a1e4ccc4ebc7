"""What the fuzz tests share: how many cases, what an input may lead to, and ways to damage it."""

from __future__ import annotations

import os
import signal
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st

TOTAL = 10_000 if os.environ.get("HYPOTHESIS_PROFILE") == "long" else 300
SECONDS_TO_A_HANG = 20.0


def cases(share: float) -> Callable[[Any], Any]:
    """Give a test its share of all cases."""
    return settings(max_examples=round(TOTAL * share))


class Hang(BaseException):
    """An input took too long. No `except Exception` catches it."""


@contextmanager
def only_one_line_errors(names: str = "") -> Iterator[None]:
    """Fail unless the block ends well, or with an error that the commands print as one line, in time.

    Args:
        names: What the message must name.
    """

    def stop(signum: int, frame: FrameType | None) -> None:
        raise Hang

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, SECONDS_TO_A_HANG)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except (ValueError, OSError) as error:
        message = str(error)
        if not message.strip() or names not in message:
            raise AssertionError(f"the message does not name {names or 'anything'}: {message!r}") from error
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)
BOTTOMLESS = b"[" * 100_000  # deeper than Python can recurse


@st.composite
def damaged(draw: st.DrawFn, content: bytes) -> bytes:
    """Some bytes after an accident: cut off, flipped, overwritten, or with a piece put in or taken out."""
    if not content:
        return draw(st.binary(max_size=64))
    result = bytearray(content)
    for _ in range(draw(st.integers(1, 3))):
        start = draw(st.integers(0, len(result)))
        length = draw(st.integers(0, 64))
        match draw(st.sampled_from(["cut", "flip", "overwrite", "insert", "remove"])):
            case "cut":
                del result[start:]
            case "flip":
                for index in range(start, min(start + 1, len(result))):
                    result[index] ^= 1 << draw(st.integers(0, 7))
            case "overwrite":
                result[start : start + length] = draw(st.binary(min_size=length, max_size=length))
            case "insert":
                result[start:start] = draw(st.binary(max_size=64))
            case "remove":
                del result[start : start + length]
    return bytes(result)


@st.composite
def altered(draw: st.DrawFn, content: Any) -> Any:
    """A JSON value with another value somewhere in it, or without one of its entries."""
    if isinstance(content, dict) and content and draw(st.integers(0, 3)):
        key = draw(st.sampled_from(sorted(content)))
        rest = {name: value for name, value in content.items() if name != key}
        return rest if draw(st.integers(0, 5)) == 0 else {**content, key: draw(altered(content[key]))}
    if isinstance(content, list) and content and draw(st.integers(0, 3)):
        index = draw(st.integers(0, len(content) - 1))
        return [*content[:index], draw(altered(content[index])), *content[index + 1 :]]
    return draw(JSON)
