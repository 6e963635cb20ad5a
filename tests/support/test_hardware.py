"""What a process may use: cores by affinity and by control group, and bfloat16 where it is computed."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from ranet.data.loading.worker_loader import default_workers
from ranet.inference.images.files import default_readers
from ranet.inference.runtimes.onnxruntime_backend import session_options
from ranet.inference.runtimes.openvino_backend import compile_options
from ranet.support import hardware
from ranet.support.hardware import available_cores, compute_threads, limit_threads, training_precision

# Names in the file that says which groups a process is in, and quotas by folder of the tree of groups.
V1 = "12:freezer:/\n4:cpu,cpuacct:/pod/box\n1:name=systemd:/\n0::/\n"
V2 = "0::/pod/box\n"


@pytest.fixture
def sixty_four(monkeypatch: pytest.MonkeyPatch) -> None:
    """A host of 32 cores with two hyperthreads each, of which this process may use all."""
    monkeypatch.setattr(hardware, "_affinity", lambda: range(64))
    monkeypatch.setattr(hardware, "_siblings", lambda cpu: f"{cpu % 32},{cpu % 32 + 32}")


def cores(folder: Path, names: str, quotas: dict[str, str]) -> int:
    """The available cores where the control groups have these quotas: file name to its content."""
    for name, content in quotas.items():
        file = folder / "groups" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content)
    (folder / "own").write_text(names)
    return available_cores(folder / "groups", folder / "own")


@pytest.mark.usefixtures("sixty_four")
@pytest.mark.parametrize(
    ("names", "quotas", "expected"),
    [
        # Version 2: in a container the own group is the root, whatever it is called on the host.
        (V2, {"cpu.max": "200000 100000\n"}, 2),
        (V2, {"cpu.max": "max 100000\n"}, 64),
        (V2, {"cpu.max": "150000 100000\n"}, 2),  # rounded up
        (V2, {"cpu.max": "20000 100000\n"}, 1),
        (V2, {"cpu.max": "9900000 100000\n"}, 64),  # more than there is
        (V2, {"pod/box/cpu.max": "max 100000\n", "pod/cpu.max": "300000 100000\n"}, 3),  # of the group around
        (V2, {"pod/box/cpu.max": "400000 100000\n", "pod/cpu.max": "800000 100000\n"}, 4),
        (V2, {"other/cpu.max": "100000 100000\n"}, 64),
        # Version 1.
        (V1, {"cpu/cpu.cfs_quota_us": "250000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 3),
        (V1, {"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, 64),
        (V1, {"cpu/pod/box/cpu.cfs_quota_us": "50000\n", "cpu/pod/box/cpu.cfs_period_us": "10000\n"}, 5),
        # A process of which the system says nothing.
        ("", {}, 64),
    ],
)
def test_cores_are_those_of_the_quota(tmp_path: Path, names: str, quotas: dict[str, str], expected: int) -> None:
    assert cores(tmp_path, names, quotas) == expected


def test_a_system_without_control_groups(tmp_path: Path) -> None:
    assert available_cores(tmp_path / "none", tmp_path / "none") == len(os.sched_getaffinity(0))


@pytest.mark.usefixtures("sixty_four")
def test_hyperthreads_compute_on_one_core(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hardware, "available_cores", lambda: 64)
    assert compute_threads() == 32
    monkeypatch.setattr(hardware, "available_cores", lambda: 3)
    assert compute_threads() == 3
    monkeypatch.setattr(hardware, "_affinity", lambda: [5, 37])
    assert compute_threads() == 1


def test_runtimes_loaders_and_readers_start_no_more_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    assert session_options().intra_op_num_threads == compute_threads()
    monkeypatch.setattr("ranet.inference.runtimes.onnxruntime_backend.compute_threads", lambda: 3)
    monkeypatch.setattr("ranet.inference.runtimes.openvino_backend.compute_threads", lambda: 3)
    monkeypatch.setattr("ranet.data.loading.worker_loader.available_cores", lambda: 3)
    monkeypatch.setattr("ranet.inference.images.files.available_cores", lambda: 3)
    assert session_options().intra_op_num_threads == 3
    assert session_options(5).intra_op_num_threads == 5
    assert compile_options("float32")["INFERENCE_NUM_THREADS"] == "3"
    assert compile_options("float32", 5)["INFERENCE_NUM_THREADS"] == "5"
    assert (default_workers(), default_workers(3), default_readers()) == (3, 1, 3)


@pytest.mark.parametrize(("processes", "expected"), [(1, 6), (2, 3), (9, 1)])
def test_pytorch_gets_the_cores(monkeypatch: pytest.MonkeyPatch, processes: int, expected: int) -> None:
    before = torch.get_num_threads()
    monkeypatch.setattr(hardware, "available_cores", lambda: 6)
    monkeypatch.setenv("OMP_NUM_THREADS", "4")
    try:
        limit_threads(processes)
        assert torch.get_num_threads() == before, "OMP_NUM_THREADS has the last word"
        monkeypatch.delenv("OMP_NUM_THREADS")
        limit_threads(processes)
        assert torch.get_num_threads() == expected
        # What Lightning reads in the processes that it starts.
        assert os.environ.get("OMP_NUM_THREADS") == (None if processes == 1 else str(expected))
    finally:
        torch.set_num_threads(before)


class Machine:
    """The hardware that PyTorch is told to see."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.patch = patch
        self.processor()
        patch.setattr(torch.cuda, "is_available", lambda: False)
        patch.setattr(torch.backends.mps, "is_available", lambda: False)
        for variable in ("ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA"):
            patch.delenv(variable, raising=False)

    def processor(self, *, avx512_bf16: bool = False, amx: bool = False, onednn: bool = True) -> None:
        self.patch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: avx512_bf16)
        self.patch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx)
        # oneDNN takes bfloat16 from AVX-512 on.
        self.patch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: onednn)

    def gpu(self, *capability: int) -> None:
        self.patch.setattr(torch.cuda, "is_available", lambda: True)
        self.patch.setattr(torch.cuda, "get_device_capability", lambda *_: capability)


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    return Machine(monkeypatch)


def test_a_processor_trains_in_bfloat16_where_it_has_instructions_for_it(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert training_precision("auto") == "32-true"  # AVX-512 alone, which emulates it
    machine.processor(onednn=False)
    assert training_precision("auto") == "32-true"
    for instructions in ({"avx512_bf16": True}, {"amx": True}):
        machine.processor(**instructions)
        assert training_precision("auto") == training_precision("cpu") == "bf16-mixed"
        for variable in ("ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA"):
            for limit, expected in (("avx512_core", "32-true"), ("AVX512_CORE_BF16", "bf16-mixed")):
                monkeypatch.setenv(variable, limit)
                assert training_precision("cpu") == expected
            monkeypatch.delenv(variable)
        machine.processor(**instructions, onednn=False)  # oneDNN is held back to AVX2
        assert training_precision("cpu") == "32-true"


def test_a_gpu_trains_in_bfloat16_from_compute_capability_8(machine: Machine) -> None:
    machine.processor(amx=True)
    machine.gpu(8, 0)
    assert [training_precision(name) for name in ("auto", "gpu", "cuda")] == ["bf16-mixed"] * 3
    machine.gpu(7, 5)
    assert [training_precision(name) for name in ("auto", "gpu", "cpu")] == ["32-true", "32-true", "bf16-mixed"]


def test_other_devices_train_in_float32(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    machine.processor(amx=True)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert [training_precision(name) for name in ("auto", "mps", "gpu", "tpu")] == ["32-true"] * 4


def test_the_installed_pytorch_honours_the_limit() -> None:
    """The private functions that are asked exist, and what holds oneDNN back to AVX2 is seen by them."""
    program = "from ranet.support.hardware import training_precision; print(training_precision('cpu'))"
    environment = {**os.environ, "ONEDNN_MAX_CPU_ISA": "AVX2"}
    out = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True)
    assert out.stdout == "32-true\n"
