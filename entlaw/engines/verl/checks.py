"""Before verl is started: is it there, does it know us in every process, does it accept the configuration?"""

from __future__ import annotations

import contextlib
import importlib.metadata
import importlib.util
import io
import logging
import os
import socket
import sys
import warnings
from collections.abc import Iterator, Sequence
from typing import Any

from entlaw.engines.verl.names import TESTED
from entlaw.errors import EntlawError, MissingExtra, SourceNotFound, UsageError
from entlaw.findings import Finding

INSTALL = "pip install 'entlaw[verl]'"


def need_verl() -> list[Finding]:
    """That verl is installed; a warning if it is of another version than the tested one.

    Raises
    ------
    MissingExtra
    """
    if importlib.util.find_spec("verl") is None:
        raise MissingExtra(
            "verl is not installed",
            hint=f"{INSTALL}, in an environment of its own: it and vLLM's CPU build want different transformers",
        )
    wanted = ("transfer_queue", "cachetools", "fastapi", "uvicorn")
    missing = [name for name in wanted if importlib.util.find_spec(name) is None]
    if missing:
        raise MissingExtra(
            f"verl needs {', '.join(missing)}, which a plain install of it does not bring", hint=INSTALL
        )
    version = importlib.metadata.version("verl")
    if version == TESTED:
        return []
    return [
        Finding(
            "verl-version",
            "warning",
            f"verl {version} is installed, and {TESTED} is what this was tested with",
            "its settings and hooks change from version to version",
            f"pip install verl=={TESTED}",
        )
    ]


@contextlib.contextmanager
def quiet() -> Iterator[io.StringIO]:
    """verl prints on stdout, which is for results, and warns of every engine that is not installed."""
    told = io.StringIO()
    with contextlib.redirect_stdout(told), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield told


def driver() -> dict[str, Any]:
    """What verl's registries hold of ours in this process, loaded by verl itself.

    Raises
    ------
    EntlawError
        Something is missing.
    """
    with quiet():
        found = _ask()
    found["entry_point"] = entry_point()
    _complain(found, "the driver")
    return found


def entry_point() -> bool:
    """Whether the installed package offers the plug-in to verl, and verl is not configured to skip it."""
    points = importlib.metadata.entry_points(group="verl.plugins")
    here = any(point.value == "entlaw.engines.verl.plugin" for point in points)
    policy = os.environ.get("VERL_USE_EXTERNAL_PLUGINS", "auto").strip().lower()
    allowed = policy == "auto" or "entlaw" in {name.strip() for name in policy.split(",")}
    return here and allowed


def _ask() -> dict[str, Any]:
    """Import verl as its processes do, then ask its registries, without registering anything ourselves.

    Runs in Ray workers too.
    """
    import sys

    import verl
    from verl.trainer.ppo import core_algos

    loaded = sys.modules.get("entlaw.engines.verl.plugin")
    if loaded is None:
        names = [n for n in core_algos.POLICY_LOSS_REGISTRY if n.startswith("entlaw_")]
        return {
            "missing": ["everything"] if not names else [],
            "failures": {},
            "verl": verl.__version__,
            "losses": names,
            "entlaw": None,
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "estimators": [],
            "trainers": [],
        }
    found: dict[str, Any] = loaded.registered()
    return found


def workers(address: str | None) -> list[dict[str, Any]]:
    """The same from a Ray worker on every node of the cluster, or of a Ray started here.

    Raises
    ------
    EntlawError
        No Ray at that address; something is missing on a node.
    """
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    own = not ray.is_initialized()
    if own and address:
        _answers(address)
    if own:
        where: dict[str, Any] = (
            {"address": address} if address else {"num_cpus": 2, "include_dashboard": False}
        )
        try:
            ray.init(**where, log_to_driver=False, logging_level=logging.ERROR)
        except Exception as error:  # Ray has an exception for each way not to be there
            raise EntlawError(
                f"no Ray cluster answers: {type(error).__name__}: {error}"[:400],
                where=address or "a local Ray",
                hint="start one with `ray start --head`, and give its address to --ray",
            ) from error
    try:
        ask = ray.remote(num_cpus=1, max_retries=0)(_ask)
        nodes = [node for node in ray.nodes() if node["Alive"] and node["Resources"].get("CPU", 0) >= 1]
        asked = [
            ask.options(
                scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
            ).remote()
            for node in nodes
        ]
        found: list[dict[str, Any]] = []
        for node, reference in zip(nodes, asked, strict=True):
            try:
                told = ray.get(reference, timeout=300)
            except Exception as error:
                raise EntlawError(
                    f"a Ray worker cannot load verl and entlaw: {type(error).__name__}: {str(error)[-300:]}",
                    where=f"node {node.get('NodeManagerAddress')}",
                    hint=f"every node needs the same environment: {INSTALL}",
                ) from error
            _complain(told, f"a Ray worker on {told['host']}")
            found.append(told)
        return found
    finally:
        if own:
            ray.shutdown()


def _answers(address: str) -> None:
    """Find within seconds that no cluster answers: Ray itself tries for minutes.

    Raises
    ------
    EntlawError
    """
    host, _, port = address.rpartition("://")[2].rpartition(":")
    if not host or not port.isdigit():
        return  # "auto", or something that Ray understands
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=10).close()
    except (OSError, OverflowError) as error:
        raise EntlawError(
            f"no Ray cluster answers: {getattr(error, 'strerror', None) or error}",
            where=address,
            hint="start one with `ray start --head --port=6379`, and give HOST:6379 to --ray",
        ) from error


def _complain(found: dict[str, Any], where: str) -> None:
    if not found["missing"] and found.get("entry_point", True):
        return
    what = (
        "verl did not load entlaw's plug-in"
        if found.get("entry_point") is False
        else (f"verl does not know {', '.join(found['missing'][:4])}")
    )
    reasons = [f"{name}: {why}" for name, why in found["failures"].items()]
    raise EntlawError(
        f"{what} in {where}",
        why="; ".join(reasons) or "verl swallows what goes wrong while it loads plug-ins",
        hint=f"{INSTALL} there, and leave VERL_USE_EXTERNAL_PLUGINS at auto",
    )


def configuration(arguments: Sequence[str]) -> dict[str, Any]:
    """verl's whole configuration with these overrides, checked by verl as its own command does.

    Raises
    ------
    UsageError
        Hydra knows no such setting, or verl's checks refuse a value.
    SourceNotFound
        verl wants to look at the model (a critic's), and it is not at hand.
    """
    with quiet() as told:
        from hydra import compose, initialize_config_module
        from hydra.core.global_hydra import GlobalHydra
        from omegaconf import OmegaConf
        from verl.trainer.ppo.utils import need_critic, need_reference_policy
        from verl.utils.config import omega_conf_to_dataclass, validate_config

        from entlaw.engines.verl.rollout_batch import settings

        GlobalHydra.instance().clear()
        # Hydra's own settings (its folder) are no part of what it composes.
        ours = [text for text in arguments if not text.startswith("hydra.")]
        try:
            with initialize_config_module("verl.trainer.config", version_base=None):
                config = compose("ppo_trainer", ours)
            validate_config(config, need_reference_policy(config), need_critic(config))
            omega_conf_to_dataclass(config.actor_rollout_ref.rollout)
            own = OmegaConf.to_container(config.trainer.v1.get("entlaw", {}) or OmegaConf.create({}))
            assert isinstance(own, dict)
            settings(config.actor_rollout_ref.actor, {str(k): v for k, v in own.items()})
            plain = OmegaConf.to_container(config, resolve=True)
        except EntlawError:
            raise
        except Exception as error:  # Hydra, OmegaConf and verl's asserts have no common ancestor
            cause = error.__cause__ or error
            if "huggingface.co" in str(error):
                raise SourceNotFound(
                    "verl cannot load the model's configuration",
                    where=next((text for text in ours if ".model.path=" in text), None),
                    why=str(error).strip().splitlines()[-1][:300],
                    hint="give access to the hub, or a folder: --set policy.path=FOLDER",
                ) from error
            raise UsageError(
                f"verl does not accept this configuration: {str(error).strip()[:600]}",
                why=f"{type(cause).__name__}: {cause}"[:600] if cause is not error else None,
                hint="an override behind -- is written as verl's: key=value, +key=value for a new one",
            ) from error
        finally:
            GlobalHydra.instance().clear()
    sys.stderr.write(told.getvalue())
    assert isinstance(plain, dict)
    return {str(key): item for key, item in plain.items()}


def adds_bos(path: str, network: bool) -> bool | None:
    """Whether a model's tokenizer puts a beginning-of-sequence token in front of text; None if it is not at hand.

    Parameters
    ----------
    network : bool
        Ask the hub for a model that is not on this machine.
    """
    if importlib.util.find_spec("transformers") is None:
        return None
    from transformers import AutoTokenizer

    try:
        with quiet():
            tokenizer = AutoTokenizer.from_pretrained(path, local_files_only=not network)
    except Exception:  # no access, gated, not there: said later, by verl or by the finding
        return None
    ids = tokenizer("a")["input_ids"]
    return bool(ids) and ids[0] == tokenizer.bos_token_id
