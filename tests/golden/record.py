"""Record anew what the commands say, and list what changed.

    python -m tests.golden.record                  # all groups, minutes
    python -m tests.golden.record fit predict      # some
    python -m tests.golden.record --check          # list what would change, write nothing; exit code 1 if anything
    python -m tests.golden.record --quick          # without the groups that take minutes
    python -m tests.golden.record --list           # every change, not one line for each place

Changes are those of any byte. A place that changed in many commands is one line: how many, the first of them.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
import time
from typing import Any

from tests.golden.answers import (
    KEPT,
    MISSING,
    ONE_THREAD,
    PRIVATE,
    Difference,
    answer,
    differences,
    load,
    save,
    sealed,
    show,
)
from tests.golden.commands import GROUPS


def main() -> int:
    """Record the groups asked for; the exit code is 1 when ``--check`` found a change."""
    assert "numpy" not in sys.modules, "too late to choose the number of threads"
    os.environ |= {"MPLBACKEND": "Agg", **ONE_THREAD}
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("groups", nargs="*", metavar="GROUP", help=f"of {', '.join(GROUPS)}")
    options.add_argument("--check", action="store_true", help="write nothing")
    options.add_argument("--quick", action="store_true", help="without the groups that take minutes")
    options.add_argument("--list", action="store_true", help="every change")
    given = options.parse_args()
    if unknown := set(given.groups) - set(GROUPS):
        options.error(f"no group {', '.join(sorted(unknown))}")
    changed = 0
    for name in given.groups or [n for n, group in GROUPS.items() if not (given.quick and group.complete)]:
        changed += _group(name, write=not given.check, listed=given.list)
    return int(given.check and changed > 0)


def _group(name: str, write: bool, listed: bool) -> int:
    """Record one group; how many of its commands changed."""
    group, kept = GROUPS[name], KEPT / f"{name}.json.gz"
    if group.shared and not group.commands:
        _say(f"{name}: skipped, its logs are not here")
        return 0
    started = time.process_time()
    new = {command: answer(command) for command in group.commands}
    hashes = {command: sealed(told) for command, told in new.items()} if group.shared else {}
    old, full = load(kept), load(PRIVATE / kept.name) if group.shared else load(kept)
    changes: list[tuple[str, Difference]] = []
    for command in {**old, **new}:
        if command not in new or command not in old:
            changes.append((command, ("", *((MISSING, "new") if command in new else ("kept", MISSING)))))
        elif group.shared and old[command] == hashes[command]:
            continue
        elif group.shared and command not in full:
            changes.append((command, ("sha256", old[command]["sha256"], hashes[command]["sha256"])))
        else:
            changes += [(command, one) for one in differences(full[command], new[command], exact=True)]
    commands = len({command for command, _ in changes})
    seconds = time.process_time() - started
    _say(f"{name}: {len(new)} commands, {commands} changed, {seconds:.1f} s of processor time")
    _tell(changes, listed)
    if write and changes:
        save(kept, hashes if group.shared else new)
    if write and group.shared:
        save(PRIVATE / kept.name, new)
    return commands


def _tell(changes: list[tuple[str, Difference]], listed: bool) -> None:
    """Each change, or the first at each place (a path without its positions in lists)."""
    places: dict[Any, list[tuple[str, Difference]]] = {}
    for i, (command, one) in enumerate(changes):
        kind = (one[1] == MISSING, one[2] == MISSING)
        place = i if listed else (re.sub(r"\[\d+\]", "[]", one[0]), *kind)
        places.setdefault(place, []).append((command, one))
    for found in places.values():
        command, first = found[0]
        more = f"   (and {len(found) - 1} more like it)" if len(found) > 1 else ""
        _say(f"  entlaw {command}\n    {show(first)}{more}")


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    raise SystemExit(main())
