"""Memory and time of log-prob + entropy at a large vocabulary: plain logits, TRL's chunked head, ours.

Qwen2.5-0.5B's head by default: V = 151,936, D = 896. Three modes:

    score   no gradient: what a rollout's log-probs and logged entropy cost
    policy  gradient of the log-probs only: RL without an entropy bonus, entropy still logged
    bonus   gradients of log-probs and entropy

Every case runs in a process of its own. Memory is the peak above what the process held once the inputs were there (CPU:
resident set, its high-water mark reset through /proc/self/clear_refs; CUDA: allocator). The gradients that a caller
gets back, [N, D] and [V, D] in the dtype of the inputs, are part of every peak and shown by themselves. Time is the
best of ``--repeats`` runs after a warm-up on a small problem; the first run gives the memory. CPU seconds are of all
threads, and tell the truth on a machine that others use too.

"plain" is what a reader would write: logits, log_softmax in float32, -sum p log p.

``--accuracy`` compares values and gradients with float64 instead, on fewer tokens.

Run: python benchmarks/entropy_head.py [--device cuda] [--tokens 512 2048] [--threads 1 2] [--json FILE]
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import gc
import importlib.metadata
import importlib.util
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

MODES = ("score", "policy", "bonus")
TEMPERATURE = 0.9
MEBIBYTE = 2**20


def _plain(hidden: Any, head: Any, label: Any) -> tuple[Any, Any]:
    import torch

    logits = (hidden @ head.T).float() / TEMPERATURE
    log_p = torch.log_softmax(logits, dim=-1)
    return log_p.gather(1, label[:, None])[:, 0], -(log_p.exp() * log_p).sum(-1)


def _trl(hidden: Any, head: Any, label: Any) -> tuple[Any, Any]:
    from trl.kernels.chunked_logprob import ChunkedLogProbFunction
    from trl.trainer.utils import _CHUNKED_LOGPROB_CHUNK_SIZE as chunk

    out = ChunkedLogProbFunction.apply(hidden, head, None, label, TEMPERATURE, chunk, None, 1.0, ("entropy",))
    return out[0], out[1]


def _ours(hidden: Any, head: Any, label: Any) -> tuple[Any, Any]:
    from entlaw.dynamics.entropy import token_statistics

    got = token_statistics(hidden, head, label, TEMPERATURE)
    return got.log_prob, got.entropy


HEADS: dict[str, Callable[[Any, Any, Any], tuple[Any, Any]]] = {"plain": _plain, "trl": _trl, "entlaw": _ours}


def inputs(case: dict[str, Any], tokens: int, vocabulary: int) -> tuple[Any, ...]:
    """Hidden states and a head whose entropy is about 1 nat, like a policy in RL; labels; weights of a loss."""
    import torch

    g = torch.Generator().manual_seed(0)
    dtype, device = getattr(torch, case["dtype"]), case["device"]
    head = torch.empty((vocabulary, case["width"]), dtype=dtype)
    for rows in head.split(8192):  # piecewise: no float32 copy of the whole
        rows.copy_(torch.randn(rows.shape, generator=g))
    hidden = torch.randn((tokens, case["width"]), generator=g) * 3.4 / case["width"] ** 0.5
    label = torch.randint(0, vocabulary, (tokens,), generator=g)
    # Aim each hidden state at a few words, so that the distribution has a peak and a long tail.
    hidden += 0.35 * head[label].float() / case["width"] ** 0.5
    weight = torch.randn((2, tokens), generator=g)
    return (
        hidden.to(device, dtype).requires_grad_(),
        head.to(device).requires_grad_(),
        label.to(device),
        weight.to(device),
    )


def once(head: str, mode: str, data: tuple[Any, ...]) -> list[Any]:
    """One evaluation: values, and gradients where the mode has them."""
    import torch

    hidden, matrix, label, weight = data
    with torch.set_grad_enabled(mode != "score"):
        log_prob, entropy = HEADS[head](hidden, matrix, label)
    if mode == "score":
        return [log_prob, entropy]
    loss = (weight[0] * log_prob).sum()
    if mode == "bonus":
        loss = loss + (weight[1] * entropy).sum()
    return [log_prob.detach(), entropy.detach(), *torch.autograd.grad(loss, (hidden, matrix))]


def status(key: str) -> float:
    """A line of /proc/self/status in MiB."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(key + ":"):
            return int(line.split()[1]) / 1024
    return float("nan")


def trim() -> None:
    """Give freed memory back to the system, or a case would find room there that the baseline already counts."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


def measure(case: dict[str, Any]) -> dict[str, Any]:
    """In the child: memory and time of one case."""
    import torch

    torch.set_num_threads(case["threads"])
    cuda = case["device"].startswith("cuda")
    once(case["head"], case["mode"], inputs(case, 32, 1024))  # libraries, threads and kernels are loaded
    data = inputs(case, case["tokens"], case["vocabulary"])
    gc.collect()
    trim()
    peaks, times, cpu, resettable = [], [], [], True
    for _ in range(case["repeats"]):
        if cuda:
            torch.cuda.synchronize()
            torch.cuda.reset_peak_memory_stats()
            before = torch.cuda.memory_allocated() / MEBIBYTE
        else:
            before = status("VmRSS")
            try:
                Path("/proc/self/clear_refs").write_text("5")
            except OSError:
                resettable = False
        start, worked = time.perf_counter(), time.process_time()
        out = once(case["head"], case["mode"], data)
        if cuda:
            torch.cuda.synchronize()
        times.append(time.perf_counter() - start)
        cpu.append(time.process_time() - worked)
        high = torch.cuda.max_memory_allocated() / MEBIBYTE if cuda else status("VmHWM")
        peaks.append(high - before)
        entropy = float(out[1].mean())
        del out
        gc.collect()
    n, v, d = case["tokens"], case["vocabulary"], case["width"]
    returned = 0.0 if case["mode"] == "score" else (n + v) * d * data[0].element_size() / MEBIBYTE
    return {
        **case,
        "peak_mib": peaks[0],
        "returned_mib": returned,
        "seconds": min(times),
        "cpu_seconds": min(cpu),
        "entropy": entropy,
        "high_water_reset": resettable,
    }


def accuracy(case: dict[str, Any]) -> dict[str, Any]:
    """In the child: errors of values and gradients against plain logits in float64, relative to the largest."""
    import torch

    torch.set_num_threads(case["threads"])
    data = inputs(case, case["tokens"], case["vocabulary"])
    exact = tuple(t.detach().double().requires_grad_() if t.is_floating_point() else t for t in data)
    log_p = torch.log_softmax(exact[0] @ exact[1].T / TEMPERATURE, dim=-1)
    values = log_p.gather(1, exact[2][:, None])[:, 0], -(log_p.exp() * log_p).sum(-1)
    wanted = [values[0], values[1]]
    for which in (0, 1):
        wanted += torch.autograd.grad((exact[3][which] * values[which]).sum(), exact[:2], retain_graph=True)
    got = HEADS[case["head"]](*data[:3])
    found = [got[0], got[1]]
    for which in (0, 1):
        found += torch.autograd.grad((data[3][which] * got[which]).sum(), data[:2], retain_graph=True)
    names = (
        "log_prob",
        "entropy",
        "d log_prob/d hidden",
        "d log_prob/d head",
        "d entropy/d hidden",
        "d entropy/d head",
    )
    errors = {
        name: float((a.detach().double() - b.detach()).norm() / b.detach().norm())
        for name, a, b in zip(names, found, wanted, strict=True)
    }
    return {**case, "errors": errors}


def child(case: dict[str, Any]) -> dict[str, Any]:
    """Run one case in a fresh process."""
    environment = {**os.environ, "OMP_NUM_THREADS": str(case["threads"])}
    done = subprocess.run(
        [sys.executable, __file__, "--child", json.dumps(case)],
        capture_output=True,
        text=True,
        env=environment,
    )
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or ["killed: out of memory"])[-1]
        return {**case, "error": reason}
    return json.loads(done.stdout.splitlines()[-1])


def table(results: list[dict[str, Any]]) -> str:
    """Rows with their ratios to plain logits of the same case."""
    names = (
        "mode",
        "dtype",
        "tokens",
        "threads",
        "head",
        "s",
        "CPU s",
        "peak MiB",
        "of it returned",
        "peak / plain",
        "beside the returned / plain",
    )
    lines = ["| " + " | ".join(names) + " |", "| --- | --- | ---: | ---: | --- |" + " ---: |" * 6]
    key = ("mode", "dtype", "tokens", "threads")
    plain = {tuple(r[k] for k in key): r for r in results if r["head"] == "plain" and "error" not in r}
    for r in results:
        left = f"| {r['mode']} | {r['dtype']} | {r['tokens']} | {r['threads']} | {r['head']} |"
        if "error" in r:
            lines.append(f"{left} {r['error']} | | | | | |")
            continue
        base = plain.get(tuple(r[k] for k in key))
        whole = f"{r['peak_mib'] / base['peak_mib']:.3f}" if base else "-"
        own = (
            f"{(r['peak_mib'] - r['returned_mib']) / (base['peak_mib'] - base['returned_mib']):.3f}"
            if base
            else "-"
        )
        times = f"{r['seconds']:.2f} | {r['cpu_seconds']:.2f}"
        lines.append(f"{left} {times} | {r['peak_mib']:.0f} | {r['returned_mib']:.0f} | {whole} | {own} |")
    return "\n".join(lines)


def accuracy_table(results: list[dict[str, Any]]) -> str:
    """Relative errors, ||x - exact|| / ||exact||."""
    names = list(next(r["errors"] for r in results if "errors" in r))
    lines = ["| dtype | head | " + " | ".join(names) + " |", "| --- | --- |" + " ---: |" * len(names)]
    for r in results:
        cells = [f"{r['errors'][n]:.1e}" for n in names] if "errors" in r else [r["error"]]
        lines.append(f"| {r['dtype']} | {r['head']} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--child", help=argparse.SUPPRESS)
    parser.add_argument("--heads", nargs="+", default=list(HEADS), choices=HEADS)
    parser.add_argument("--modes", nargs="+", default=list(MODES), choices=MODES)
    parser.add_argument("--dtypes", nargs="+", default=["float32", "bfloat16"])
    parser.add_argument("--tokens", nargs="+", type=int, default=[512, 2048])
    parser.add_argument("--threads", nargs="+", type=int, default=[1])
    parser.add_argument("--vocabulary", type=int, default=151_936)
    parser.add_argument("--width", type=int, default=896)
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--accuracy", action="store_true")
    parser.add_argument("--json", metavar="FILE", help="write the figures here too")
    given = parser.parse_args()
    if given.child:
        case = json.loads(given.child)
        print(json.dumps(accuracy(case) if case["accuracy"] else measure(case)))
        return
    import torch

    heads = [h for h in given.heads if h != "trl" or importlib.util.find_spec("trl")]
    if heads != given.heads:
        print("TRL is not installed: pip install 'trl==1.16.0'", file=sys.stderr)
    versions = {p: importlib.metadata.version(p) for p in ("torch", *(["trl"] if "trl" in heads else []))}
    where = torch.cuda.get_device_name() if given.device.startswith("cuda") else f"CPU {platform.machine()}"
    print(f"V = {given.vocabulary:,}, D = {given.width}, {where}, {versions}\n")
    fixed = {k: getattr(given, k) for k in ("vocabulary", "width", "repeats", "device", "accuracy")}
    results = []
    modes, tokens = (["bonus"], given.tokens[:1]) if given.accuracy else (given.modes, given.tokens)
    for mode in modes:
        for dtype in given.dtypes:
            for n in tokens:
                for threads in given.threads:
                    for head in heads:
                        case = {"head": head, "mode": mode, "dtype": dtype, "tokens": n, "threads": threads}
                        results.append(child({**case, **fixed}))
                        r = results[-1]
                        said = r.get("error") or (
                            f"{r['seconds']:.2f} s, {r['peak_mib']:.0f} MiB" if "seconds" in r else "done"
                        )
                        print(
                            f"{mode} {dtype} {n} tokens, {threads} threads, {head}: {said}", file=sys.stderr
                        )
    print(accuracy_table(results) if given.accuracy else table(results))
    if given.json:
        Path(given.json).write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
