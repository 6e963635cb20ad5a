"""What this process computes on, by the name that its maker gave it."""

from __future__ import annotations

import os
import platform
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def processor_name() -> str:
    """The processor's name where the system tells it, and its architecture otherwise."""
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def device_name(device: torch.device) -> str:
    """The name of the GPU if the device is one that CUDA drives, and of the processor for the CPU.

    Example:
        >>> import torch
        >>> device_name(torch.device("cpu")) == processor_name()
        True
    """
    if device.type == "cuda":
        import torch  # here, because processors are named in processes without PyTorch, too

        return torch.cuda.get_device_name(device)
    return processor_name() if device.type == "cpu" else str(device)


def available_cores() -> int:
    """How many processor cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
