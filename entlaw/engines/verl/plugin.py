"""What verl loads: registers our losses, advantage estimators and trainer.

verl imports this module while it is itself being imported, in the driver and in every Ray worker, and swallows whatever
goes wrong; :func:`registered` asks its registries what really is there. Losses and estimators come first: they need
less of verl than the trainer, whose imports (TransferQueue) a plain install of verl lacks.
"""

from __future__ import annotations

from typing import Any

from entlaw.engines.verl.names import TRAINER, estimators, loss_names

failures: dict[str, str] = {}
"""What could not be registered, and why; empty if all is well."""


def register() -> None:
    """Put everything into verl's registries; doing it again changes nothing."""
    from verl.trainer.ppo import core_algos

    from entlaw.engines.verl.functions import estimator, policy_loss

    for registered_as, name in loss_names().items():
        if registered_as not in core_algos.POLICY_LOSS_REGISTRY:
            core_algos.register_policy_loss(registered_as)(policy_loss(name))
    for registered_as in estimators():
        if registered_as not in core_algos.ADV_ESTIMATOR_REGISTRY:
            core_algos.register_adv_est(registered_as)(estimator(registered_as))
    try:
        import entlaw.engines.verl.trainer  # noqa: F401  # registers itself
    except Exception as error:  # another verl may lack a module, a class, a setting: said by whoever asks
        failures["trainer"] = f"{type(error).__name__}: {error}"
    else:
        failures.pop("trainer", None)


def registered() -> dict[str, Any]:
    """What this process's registries hold of ours, as plain data.

    Returns
    -------
    dict
        ``losses``, ``estimators``, ``trainers`` (lists of names), ``missing`` (list), ``failures`` (dict), ``verl`` and
        ``entlaw`` (versions), ``host``, ``pid``.
    """
    import os
    import socket

    import verl
    from verl.trainer.ppo import core_algos

    from entlaw._version import __version__

    try:
        from verl.trainer.ppo.v1.trainer_base import TRAINER_REGISTRY
    except ImportError:
        TRAINER_REGISTRY = {}
    wanted = {
        "losses": (tuple(loss_names()), core_algos.POLICY_LOSS_REGISTRY),
        "estimators": (tuple(estimators()), core_algos.ADV_ESTIMATOR_REGISTRY),
        "trainers": ((TRAINER,), TRAINER_REGISTRY),
    }
    found: dict[str, Any] = {
        kind: [name for name in names if name in registry] for kind, (names, registry) in wanted.items()
    }
    found["missing"] = [name for names, registry in wanted.values() for name in names if name not in registry]
    return found | {
        "failures": dict(failures),
        "verl": verl.__version__,
        "entlaw": __version__,
        "host": socket.gethostname(),
        "pid": os.getpid(),
    }


register()
