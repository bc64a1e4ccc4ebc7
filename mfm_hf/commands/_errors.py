"""How a command tells its user what to mend."""

from __future__ import annotations

import logging
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager

logger = logging.getLogger(__name__)


@contextmanager
def one_line_errors() -> Iterator[None]:
    """Turn an error that the user can mend into one line on stderr and exit code 2.

    `ValueError` and `OSError` (`FileNotFoundError` among them) are such errors; all others are bugs and keep their
    traceback. The traceback of the former is logged at level DEBUG. Ctrl-C ends with exit code 130, as in a shell.
    """
    try:
        yield
    except (ValueError, OSError) as error:
        logger.debug("what led to the error:", exc_info=True)
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        raise SystemExit(2) from None
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        raise SystemExit(128 + signal.SIGINT) from None
