"""What a process that is ours from its start sets up: the command line, a worker of Ray."""

from __future__ import annotations

import sys
import warnings


def hush_deprecations() -> None:
    """Keep what one library says of another's calls from users, who can do nothing about it.

    For processes that are ours from the start. ``python -W`` and ``PYTHONWARNINGS`` show them all the same; tests see
    them in any case.
    """
    if not sys.warnoptions:
        for kind in (DeprecationWarning, PendingDeprecationWarning, FutureWarning):
            warnings.simplefilter("ignore", kind)
