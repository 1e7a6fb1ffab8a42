"""The variables that lead the client to a server, and keep its files and its patience within bounds."""

from __future__ import annotations

from pathlib import Path


def variables(url: str, key: str, home: Path) -> dict[str, str]:
    """Environment of a process that uses the client.

    Parameters
    ----------
    url : str
        Base URL of the server.
    key : str
        API key, of at least 40 characters.
    home : Path
        Folder for all that the client writes.
    """
    retries = {  # after a failure it asks once more, a second later, instead of for minutes
        f"WANDB__{kind}_RETRY_{which}": value
        for kind in ("GRAPHQL", "FILE_STREAM", "FILE_TRANSFER")
        for which, value in (("MAX", "1"), ("WAIT_MIN_SECONDS", "1"), ("WAIT_MAX_SECONDS", "1"))
    }
    return retries | {
        "WANDB_BASE_URL": url,
        "WANDB_API_KEY": key,
        "HOME": str(home),
        "NETRC": str(home / "netrc"),
        "WANDB_DIR": str(home),
        "WANDB_CACHE_DIR": str(home / "cache"),
        "WANDB_CONFIG_DIR": str(home / "config"),
        "WANDB_DATA_DIR": str(home / "data"),
        "WANDB_ARTIFACT_DIR": str(home / "artifacts"),
        "WANDB_ERROR_REPORTING": "false",
        "WANDB_SILENT": "true",
        "WANDB_CONSOLE": "off",
        "WANDB__DISABLE_STATS": "true",
        "WANDB__DISABLE_META": "true",
        "WANDB__DISABLE_MACHINE_INFO": "true",
        "WANDB_DISABLE_GIT": "true",
        "WANDB_DISABLE_CODE": "true",
        "WANDB__FILE_STREAM_TRANSMIT_INTERVAL": "1",  # second; for less the client takes its own 15
    }
