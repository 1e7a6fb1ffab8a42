"""The SDK's service process is ended, also when it no longer listens."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time

import pytest

from entlaw.runs.wandb.sdk import _process, end_service
from tests.conftest import PATIENCE

wandb = pytest.importorskip("wandb", reason="the W&B client is not installed")


def running_service(server):
    wandb.Api(timeout=30)
    process = _process(wandb)
    assert process is not None, "the SDK keeps its service process elsewhere: see entlaw.runs.wandb.sdk"
    assert process.poll() is None
    return process


def test_a_service_that_listens_ends_by_itself(wandb_server):
    process = running_service(wandb_server)
    assert end_service(wandb, patience=PATIENCE)
    assert process.poll() is not None
    assert _process(wandb) is None and end_service(wandb)


def test_a_service_that_no_longer_listens_is_killed(wandb_server):
    process = running_service(wandb_server)
    os.kill(process.pid, signal.SIGSTOP)
    begun = time.monotonic()
    assert not end_service(wandb, patience=0.3)
    assert time.monotonic() - begun >= 0.3
    assert process.poll() == -signal.SIGKILL
    assert wandb.Api(timeout=30).default_entity == "team"  # the next use starts another one


def test_a_command_returns_when_the_service_has_gone_astray(wandb_server, tmp_path):
    """Where the SDK alone would wait at exit for ever."""
    program = textwrap.dedent(
        """
        import os, signal, sys
        import entlaw.cli.app
        from entlaw.cli.__main__ import main
        from entlaw.runs.wandb import sdk
        real = entlaw.cli.app.run
        sdk.end_service.__defaults__ = (0.3,)  # a test's patience

        def run(tokens):
            code = real(tokens)
            os.kill(sdk._process(sys.modules["wandb"]).pid, signal.SIGSTOP)
            return code

        entlaw.cli.app.run = run
        sys.argv = ["entlaw", "fit", "team/none/r1"]
        main()
        """
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
        cwd=tmp_path,
    )
    assert done.returncode == 3, done.stderr[-2000:]
