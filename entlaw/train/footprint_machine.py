"""The devices that a run is estimated for: memory, arithmetic, bandwidth."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path

from entlaw.errors import UsageError
from entlaw.train.settings import closest

GB = 10**9


@dataclass(frozen=True)
class Machine:
    """Devices of one kind.

    Attributes
    ----------
    memory : float
        Bytes of one device; of a CPU, of the whole machine.
    flops : float
        Dense bfloat16 operations a second of one device, as its maker states them; 0 where unknown.
    bandwidth : float
        Bytes a second from its memory; 0 where unknown.
    free : float or None
        Bytes of ``memory`` that are free now; None where the device is not at hand.
    """

    name: str
    count: int
    memory: float
    flops: float = 0.0
    bandwidth: float = 0.0
    cpu: bool = False
    free: float | None = None

    @property
    def usable(self) -> float:
        """Bytes that a run can count on: less what the driver takes, and 5 % lost between blocks."""
        if self.cpu:
            return 0.95 * (self.memory if self.free is None else self.free)
        return 0.95 * (self.memory if self.free is None else self.free) - 0.8 * GB


# Data sheets of NVIDIA: memory in GB, bfloat16 without sparsity in TFLOP/s, bandwidth in GB/s.
GPUS: dict[str, tuple[float, float, float]] = {
    "a100-40": (42.9, 312, 1555),
    "a100": (85.9, 312, 2039),
    "h100": (85.9, 989, 3350),
    "h200": (151.4, 989, 4800),
    "b200": (193.3, 2250, 8000),
    "l40s": (51.5, 362, 864),
    "rtx4090": (25.8, 165, 1008),
}


def named(name: str, count: int, memory_gb: float | None = None) -> Machine:
    """GPUs that are not here.

    Parameters
    ----------
    memory_gb : float, optional
        Instead of the table's, in 10^9 bytes.

    Raises
    ------
    UsageError
        An unknown name.
    """
    key = name.lower().replace("_", "-").removesuffix("-80")
    if key not in GPUS:
        near = closest(key, GPUS)
        raise UsageError(
            f"--gpu {name} is not in the table",
            hint=f"known: {', '.join(GPUS)}" + (f"; nearest: {near[0]}" if near else "")
            + "; for another, take a similar one and say --gpu-memory",
        )  # fmt: skip
    memory, tflops, bandwidth = GPUS[key]
    return Machine(
        key, count, (memory_gb or memory) * GB, tflops * 1e12, bandwidth * 1e9
    )  # fmt: skip


def here(device: str = "auto") -> Machine:
    """What this machine has: its CUDA devices, or its memory (a container's limit, where that is lower)."""
    count = int(os.environ.get("WORLD_SIZE", "0") or 0)
    if not device.startswith("cpu"):
        gpu = _cuda(device)
        if gpu is not None:
            return replace(gpu, count=count) if count else gpu
    total, free = _ram()
    return Machine("this machine's CPU", 1, total, cpu=True, free=free)


def _cuda(device: str) -> Machine | None:
    try:
        import torch
    except ImportError:
        return None
    if not torch.cuda.is_available():
        return None
    index = int(device.partition(":")[2] or os.environ.get("LOCAL_RANK", "0") or 0)
    if index >= torch.cuda.device_count():
        return None
    free, total = torch.cuda.mem_get_info(index)
    name = torch.cuda.get_device_name(index)
    known = next((key for key in GPUS if key.split("-")[0] in name.lower().replace(" ", "")), None)
    flops, bandwidth = (GPUS[known][1] * 1e12, GPUS[known][2] * 1e9) if known else (0.0, 0.0)
    return Machine(name, 1, float(total), flops, bandwidth, free=float(free))


def _ram() -> tuple[float, float]:
    """Total and available memory; Linux's own count, else half of nothing is known: infinite."""
    numbers: dict[str, float] = {}
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            key, _, rest = line.partition(":")
            numbers[key] = float(rest.split()[0]) * 1024
    except (OSError, ValueError, IndexError):
        pass
    total = numbers.get("MemTotal", float("inf"))
    free = numbers.get("MemAvailable", total)
    limit, used = _cgroup()
    return min(total, limit), min(free, max(limit - used, 0.0))


def _cgroup() -> tuple[float, float]:
    for limit, used in (
        ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"),
        ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "/sys/fs/cgroup/memory/memory.usage_in_bytes"),
    ):
        try:
            return float(Path(limit).read_text()), float(Path(used).read_text())
        except (OSError, ValueError):
            continue
    return float("inf"), 0.0
