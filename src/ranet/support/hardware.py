"""The processors of this machine: names, usable cores, threads and precision."""

from __future__ import annotations

import math
import os
import platform
from collections.abc import Collection, Iterator
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

# Where Lightning looks for the number of a process of a distributed run.
_RANKS = ("RANK", "LOCAL_RANK", "SLURM_PROCID", "JSM_NAMESPACE_RANK")


def is_first_process() -> bool:
    """Return whether this is the process of a distributed run that writes and speaks, or the only one."""
    return next((os.environ[name] for name in _RANKS if name in os.environ), "0") == "0"


def processor_name() -> str:
    """Return the name of the processor, or its architecture if the system does not give the name."""
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def device_name(device: torch.device) -> str:
    """Return the name of a CUDA device, or of the processor for the CPU."""
    if device.type == "cuda":
        import torch  # here, because processors are named in processes without PyTorch, too

        return torch.cuda.get_device_name(device)
    return processor_name() if device.type == "cpu" else str(device)


def available_cores(cgroups: Path = Path("/sys/fs/cgroup"), process: Path = Path("/proc/self/cgroup")) -> int:
    """Return the number of processor cores that this process may use, by its affinity and its CPU quota.

    A quota, such as a container's, is rounded up to whole cores. More threads than that would wait for each other.
    Linux shows control groups, of version 1 or 2, in ``cgroups``, and names those of this process in ``process``.
    """
    quotas = [math.ceil(quota) for quota in _cpu_quotas(cgroups, process)]
    return max(1, min([len(_affinity()), *quotas]))


def compute_threads() -> int:
    """Return the number of threads for one operator: one for each core, hyperthreads not counted."""
    return min(available_cores(), len({_siblings(cpu) for cpu in _affinity()}))


def limit_threads(processes: int = 1) -> None:
    """Give PyTorch a thread for each core, shared by the training processes here, unless OMP_NUM_THREADS is set."""
    if "OMP_NUM_THREADS" in os.environ:
        return
    import torch

    threads = max(1, available_cores() // processes)
    torch.set_num_threads(threads)
    if processes > 1:  # Lightning starts the others, and would count their cores without the quota
        os.environ["OMP_NUM_THREADS"] = str(threads)


def training_precision(accelerator: str) -> str:
    """Return the precision that trains fastest on an accelerator, both as Lightning names them.

    That is bfloat16 autocast where the device computes in it, and float32 elsewhere. A small MSDNet takes 0.7 times as
    long in bfloat16 on a processor with AVX512-BF16, and without it 1.5 (AVX-512) or 10 times (AVX2) as long.
    """
    import torch

    on_gpu = accelerator in ("auto", "gpu", "cuda") and torch.cuda.is_available()
    if on_gpu:
        fast = torch.cuda.get_device_capability()[0] >= 8
    else:
        on_processor = accelerator == "cpu" or (accelerator == "auto" and not torch.backends.mps.is_available())
        fast = on_processor and _processor_computes_bfloat16()
    return "bf16-mixed" if fast else "32-true"


def _processor_computes_bfloat16() -> bool:
    """Return whether the processor has instructions for bfloat16 that oneDNN uses, unless a variable forbids them."""
    import torch

    limit = os.environ.get("ONEDNN_MAX_CPU_ISA") or os.environ.get("DNNL_MAX_CPU_ISA") or ""
    return (
        (torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())
        and torch.ops.mkldnn._is_mkldnn_bf16_supported()  # with AVX-512 alone, too, where it emulates them
        and limit.upper() not in ("AVX512_CORE", "AVX512_CORE_VNNI")
    )


def _affinity() -> Collection[int]:
    """Return the numbers of the logical processors that this process may run on."""
    return os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else range(os.cpu_count() or 1)


def _siblings(cpu: int) -> str:
    """Return the logical processors on the same core, as the system writes them."""
    return _read(Path(f"/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list")) or str(cpu)


def _cpu_quotas(cgroups: Path, process: Path) -> Iterator[float]:
    """Yield the CPU quotas of the control groups of this process and of all groups around them, in cores."""
    for line in _read(process).splitlines():
        _, controllers, group = line.split(":", 2)
        if controllers and "cpu" not in controllers.split(","):
            continue
        mount = cgroups / "cpu" if controllers else cgroups
        # A container may see its own group alone, as the root, and still be told the group's name on the host.
        inner = PurePosixPath(group.lstrip("/"))
        for folder in [mount / inner, *(mount / around for around in inner.parents)]:
            words = _read(folder / "cpu.max").split() or [
                *_read(folder / "cpu.cfs_quota_us").split(),
                *_read(folder / "cpu.cfs_period_us").split(),
            ]
            # Microseconds of CPU time in a period, and its length; the quota is "max" or -1 where there is none.
            if len(words) == 2 and words[0] != "max" and int(words[0]) > 0 and int(words[1]) > 0:
                yield int(words[0]) / int(words[1])


def _read(file: Path) -> str:
    """Return the text of a file of the system; empty if it does not exist."""
    try:
        return file.read_text()
    except OSError:
        return ""
