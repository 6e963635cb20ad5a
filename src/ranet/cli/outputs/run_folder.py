"""The record of a run beside its results: configuration and environment."""

from __future__ import annotations

import json
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf
from pytorch_lightning.utilities.rank_zero import rank_zero_only

import ranet
from ranet.errors import UserError
from ranet.support.files import write_text
from ranet.support.hardware import processor_name

CONFIG, ENVIRONMENT = "config.yaml", "environment.json"
_PACKAGES = (
    *("ranet", "torch", "torchvision", "pytorch-lightning", "hydra-core", "omegaconf", "scipy", "torchmetrics"),
    *("wandb", "onnx", "onnxruntime", "openvino"),
)


def run_folder() -> Path:
    """Return the folder that Hydra made for this run or job.

    Raises:
        UserError: if it holds the record of another command, such as that of the training.
    """
    folder = Path(HydraConfig.get().runtime.output_dir)
    refuse_record_of_another(folder)
    return folder


@rank_zero_only
def write_record(folder: Path, config: DictConfig) -> None:
    """Write the resolved configuration and the environment into a run folder."""
    write_text(folder / CONFIG, OmegaConf.to_yaml(config, resolve=True))
    hydra = HydraConfig.get()
    # In a sweep, the command that gives this job alone.
    record = {"command": ["ranet", hydra.job.config_name, *hydra.overrides.task], **environment()}
    write_text(folder / ENVIRONMENT, json.dumps(record, indent=1) + "\n")


def refuse_record_of_another(folder: Path) -> None:
    """Raise a UserError if the folder holds the record of another command, which would be lost."""
    verb = _recorded_verb(folder)
    if verb is not None and verb != HydraConfig.get().job.config_name:
        raise UserError(f"{folder} holds the record of ranet {verb}; choose another folder for the results.")


def has_record(folder: Path) -> bool:
    """Return whether this command has written a record into the folder before."""
    return _recorded_verb(folder) == HydraConfig.get().job.config_name


def _recorded_verb(folder: Path) -> str | None:
    """Return the verb whose record a folder holds; None if it holds none."""
    try:
        return str(json.loads((folder / ENVIRONMENT).read_text())["command"][1])
    except (OSError, ValueError, LookupError, TypeError):
        return None


def environment() -> dict[str, Any]:
    """Return git revision, versions and hardware of this process."""
    return {
        "git_revision": git_revision(),
        "python": platform.python_version(),
        "packages": {name: package_version(name) for name in _PACKAGES},
        "machine": platform.platform(),
        "processor": processor_name(),
        "threads": torch.get_num_threads(),
        "gpus": [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())],
    }


def git_revision() -> str | None:
    """Return the git revision of ranet's checkout, with "+changes" if it is not clean; None outside a checkout."""
    folder = Path(ranet.__file__).parent

    def git(*arguments: str) -> str:
        return subprocess.run(
            ["git", *arguments], cwd=folder, capture_output=True, text=True, check=True
        ).stdout.strip()

    try:
        tracked = git("ls-files", "--error-unmatch", str(Path(ranet.__file__).name))
        changes = git("status", "--porcelain", "--untracked-files=no")
        return (git("rev-parse", "HEAD") + ("+changes" if changes else "")) if tracked else None
    except (OSError, subprocess.CalledProcessError):
        return None


def package_version(package: str) -> str | None:
    """Return the version of a package; None if it is not installed."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None
