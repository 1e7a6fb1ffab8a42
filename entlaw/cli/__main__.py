"""``python -m entlaw.cli`` and the ``entlaw`` script: run a command, turn errors into messages and exit codes."""

from __future__ import annotations

import os
import sys


def main(argv: list[str] | None = None) -> int:
    """Run the command line.

    Returns
    -------
    int
        The exit code: 0 ok, 1 unexpected, 2 usage, 3 data missing or unreadable, 4 fit refused, 5 stop rule fired.
    """
    from entlaw.cli.surroundings import prepare, write_any_text
    from entlaw.process import hush_deprecations

    write_any_text()
    prepare()
    if argv is None:
        hush_deprecations()
    from entlaw.cli.app import run

    # Of a parent with a W&B run of its own: its service process is not ours to use, or to bring down.
    os.environ.pop("WANDB_SERVICE", None)
    tokens = sys.argv[1:] if argv is None else argv
    try:
        code = run(tokens)
        sys.stdout.flush()
    except BrokenPipeError:  # `entlaw fit ... | head`: the reader has gone, which is no error of ours
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 0
    except KeyboardInterrupt:
        sys.stderr.write("interrupted\n")
        code = 130
    if argv is None:
        _end_wandb()
        raise SystemExit(code)
    return code


def _end_wandb() -> None:
    """Without this the SDK waits at exit for its service process, for ever if that does not answer."""
    if (wandb := sys.modules.get("wandb")) is not None:
        from entlaw.runs.wandb.sdk import end_service

        end_service(wandb)


if __name__ == "__main__":
    main()
