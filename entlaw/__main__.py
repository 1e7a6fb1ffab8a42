"""``python -m entlaw``: as the ``entlaw`` script."""

from __future__ import annotations

from entlaw.cli.__main__ import main

if __name__ == "__main__":
    main()
