"""vLLM in a process of its own: for GPUs apart from the trainer's, and so that its death is not the trainer's.

The two talk over a pipe in plain data. Weights go over NCCL, GPU to GPU, or as a file in shared memory.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import socket
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import torch

from entlaw.errors import EntlawError
from entlaw.train.failure import TrainingFailed
from entlaw.train.policy import LanguageModel
from entlaw.train.rollout.vllm import VllmEngine, shared_folder, weights, write_weights
from entlaw.train.rollout.vllm_core import Core, CoreSettings, SampledResponse
from entlaw.train.schema import Vllm

# How often a dead engine is started anew before the run gives up.
_RESTARTS = 2


class EngineDied(Exception):
    """The engine's process is gone."""


class RemoteCore:
    """A :class:`Core` in another process, started anew when it dies.

    Parameters
    ----------
    settings : CoreSettings
    on_restart : callable
        Called after a restart, with the new process running: it has the weights of ``settings.model`` and nothing else.
    """

    def __init__(self, settings: CoreSettings, on_restart: Callable[[], None] = lambda: None) -> None:
        self.settings, self.on_restart, self.restarts = settings, on_restart, 0
        self._start()

    @property
    def pid(self) -> int | None:
        """Of the engine's process."""
        return self._process.pid

    def generate(
        self, prompts: Sequence[Sequence[int]], sampling: dict[str, Any], seeds: Sequence[int]
    ) -> list[list[SampledResponse]]:
        """As :meth:`Core.generate`; asked again of a new process if the engine dies meanwhile.

        Raises
        ------
        TrainingFailed
            It died again and again.
        """
        return list(self._insist("generate", prompts, sampling, seeds))

    def load_folder(self, folder: str) -> None:
        """As :meth:`Core.load_folder`."""
        self._insist("load_folder", folder)

    def sleep(self) -> None:
        """As :meth:`Core.sleep`."""
        self._insist("sleep")

    def call(self, method: str, payload: Any = None) -> None:
        """As :meth:`Core.call`; half a transfer of weights cannot be asked for again, so a death in it ends the run."""
        try:
            self.ask("call", method, payload)
        except EngineDied as error:
            raise _given_up("died while it received weights", error) from error

    def _insist(self, method: str, *arguments: Any) -> Any:
        while True:
            try:
                return self.ask(method, *arguments)
            except EngineDied as error:
                if self.restarts >= _RESTARTS:
                    raise _given_up(f"died {self.restarts + 1} times", error) from error
                self.restarts += 1
                self._start()
                self.on_restart()

    def close(self) -> None:
        """End the process."""
        with contextlib.suppress(OSError, ValueError):
            self._pipe.send(None)
        self._process.join(10)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()
        self._pipe.close()

    def ask(self, method: str, *arguments: Any) -> Any:
        """Call a method of the core over there.

        Raises
        ------
        EngineDied
            The process is gone.
        EntlawError
            What the core raised.
        """
        try:
            self._pipe.send((method, arguments))
            # Waiting for the process as well: a killed one leaves the pipe open in whoever inherited its other end.
            ready = multiprocessing.connection.wait([self._pipe, self._process.sentinel])
            if self._pipe not in ready:
                raise EOFError
            ok, value = self._pipe.recv()
        except (EOFError, OSError) as error:
            self._process.join(10)
            raise EngineDied(_how_it_ended(self._process.exitcode)) from error
        if not ok:
            raise value
        return value

    def _start(self) -> None:
        context = multiprocessing.get_context("spawn")
        here, there = context.Pipe()
        self._process = context.Process(target=_serve, args=(there, self.settings), daemon=True)
        # The child reads its environment when its interpreter starts, before any line of ours.
        with _environment(self.settings.environment):
            self._process.start()
        there.close()
        self._pipe = here
        try:
            self.ask("ready")
        except EngineDied as error:
            raise _given_up("died while it started", error) from error


def _serve(pipe: Any, settings: CoreSettings) -> None:
    """The engine's process: make the core, then answer until it is asked to stop or its parent is gone."""
    import signal

    from entlaw.process import hush_deprecations

    hush_deprecations()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the trainer, which then stops this
    core: Core | None = None
    while True:
        try:
            asked = pipe.recv()
        except EOFError:
            break
        if asked is None:
            break
        method, arguments = asked
        try:
            if core is None:
                core = Core(settings)
            value = None if method == "ready" else getattr(core, method)(*arguments)
            pipe.send((True, value))
        except EntlawError as error:
            pipe.send((False, error))
        except Exception as error:
            pipe.send((False, RuntimeError(f"{type(error).__name__}: {error}")))
    if core is not None:
        core.close()


@contextlib.contextmanager
def _environment(values: Any) -> Any:
    old = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in old.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def _given_up(what: str, error: EngineDied) -> TrainingFailed:
    return TrainingFailed(
        f"vLLM's process {what}",
        why=str(error),
        hint="everything up to the last checkpoint is saved: continue with `entlaw train --resume`, with a lower "
        "vllm.memory_share or vllm.max_sequences if it ran out of memory",
    )


def _how_it_ended(code: int | None) -> str:
    if code is not None and code < 0:
        return f"ended by signal {-code}" + (" (killed, as when memory runs out)" if code == -9 else "")
    return f"ended with exit code {code}"


def own_process(policy: LanguageModel, settings: CoreSettings, vllm: Vllm) -> VllmEngine:
    """vLLM in its own process, on the devices the recipe names."""
    cuda = torch.cuda.is_available()
    over_nccl = vllm.sync == "nccl" or (vllm.sync == "auto" and cuda)
    environment = (
        {"CUDA_VISIBLE_DEVICES": vllm.devices or _devices_behind(vllm.tensor_parallel)} if cuda else {}
    )
    core = RemoteCore(replace(settings, transfer=over_nccl, environment=environment))
    dtype = getattr(torch, settings.dtype)
    if over_nccl:
        sender = NcclSender(policy, core, dtype, settings.tensor_parallel)
        push: Callable[[], None] = sender.send
        core.on_restart = sender.reconnect
    else:
        folder = shared_folder()

        def push() -> None:
            core.load_folder(write_weights(policy, dtype, folder))

        # What was pushed last, not what the policy is: of several ranks only this one restarts, and cannot gather.
        core.on_restart = lambda: core.load_folder(str(folder)) if any(folder.iterdir()) else None
    return VllmEngine(policy, core, push, sleep=False)


def _devices_behind(n: int) -> str:
    """The ``n`` CUDA devices that follow those of this machine's trainer processes."""
    first = int(os.environ.get("LOCAL_WORLD_SIZE", "1")) + int(os.environ.get("LOCAL_RANK", "0")) * n
    return ",".join(str(first + i) for i in range(n))


class NcclSender:
    """The trainer's end of vLLM's weight transfer: rank 0 of a group whose other ranks are vLLM's workers.

    Needs GPUs on both sides; vLLM's own protocol of the tested release.
    """

    def __init__(self, policy: LanguageModel, core: RemoteCore, dtype: torch.dtype, workers: int) -> None:
        self.policy, self.core, self.dtype, self.workers = policy, core, dtype, workers
        self._connect()

    def _connect(self) -> None:
        from vllm.distributed.weight_transfer.nccl_common import trainer_init
        from vllm.distributed.weight_transfer.nccl_engine import NCCLTrainerInitInfo

        port = _free_port()
        told = {
            "master_address": "127.0.0.1",
            "master_port": port,
            "rank_offset": 1,
            "world_size": self.workers + 1,
            "packed": False,
        }
        info = NCCLTrainerInitInfo(master_address="127.0.0.1", master_port=port, world_size=self.workers + 1)
        # Both ends wait for each other inside the call, so the other is asked from a thread.
        with ThreadPoolExecutor(1) as pool:
            other = pool.submit(self.core.call, "init_weight_transfer_engine", told)
            self.group = trainer_init(info)
            other.result()

    def reconnect(self) -> None:
        """After a restart of the engine.

        Raises
        ------
        TrainingFailed
            The weights are spread over several ranks, which this one cannot gather alone.
        """
        if int(os.environ.get("WORLD_SIZE", "1")) > 1:
            raise _given_up("died", EngineDied("its weights cannot be sent again by one rank alone"))
        self._connect()
        self.send()

    def send(self) -> None:
        """Broadcast the weights, one after the other, while vLLM's workers receive them."""
        named = self.policy.model.state_dict()
        told = {
            "names": list(named),
            "dtype_names": [str(self.dtype).removeprefix("torch.")] * len(named),
            "shapes": [list(t.shape) for t in named.values()],
        }
        self.core.call("start_weight_update")
        with ThreadPoolExecutor(1) as pool:
            other = pool.submit(self.core.call, "update_weights", told)
            for _, tensor in weights(self.policy, self.dtype):
                self.group.broadcast(tensor.contiguous(), src=0, stream=torch.cuda.current_stream())
            torch.cuda.current_stream().synchronize()
            other.result()
        self.core.call("finish_weight_update")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
