"""The loopback server with the real client turned to it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from entlaw.runs.wandb.sdk import end_service
from tests.wandb_server import WandbServer


@pytest.fixture
def wandb_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[WandbServer]:
    """A server of its own for one test, an environment that leads the client there, and an empty working folder.

    The client reads the environment once, keeps a service process that sends for it, and keeps its login. All of
    this goes with `end_service`, before the test and after it; the next use starts anew, in a third of a second.
    Variables of the user's are out of reach.
    """
    wandb = pytest.importorskip("wandb")
    end_service(wandb)  # first: it takes its address out of the environment, which must not be put back later
    for name in [name for name in os.environ if name.startswith("WANDB_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    home = tmp_path / "wandb-home"
    home.mkdir()
    with WandbServer() as server:
        for name, value in server.environment(home).items():
            monkeypatch.setenv(name, value)
        yield server
        end_service(wandb)
        assert server.defects == [] and server.unanswered == []
