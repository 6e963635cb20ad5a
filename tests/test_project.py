"""The structure of the project: who may import whom, and what travels in the wheel."""

import ast
import configparser
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "src" / "ranet"
# As the data goes. A package imports those before it, itself, and the modules that belong to none.
ORDER = ["images", "data", "models", "cost", "training", "calibration", "evaluation", "inference", "benchmark", "cli"]
# Beside each other in the flow: neither knows the other.
STRANGERS = {("models", "data"), ("cost", "data"), ("calibration", "data"), ("calibration", "models"),
             ("calibration", "training"), ("evaluation", "training"), ("evaluation", "data"),
             ("inference", "training"), ("inference", "data"), ("benchmark", "training"),
             ("benchmark", "data")}  # fmt: skip


def imports(path: Path) -> set[str]:
    """The packages of ranet that a module imports, however it says it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports relatively"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        else:
            continue
        found |= {name.split(".")[1] for name in names if name.startswith("ranet.")}
    return found


@pytest.mark.parametrize("package", ORDER)
def test_nothing_upstream_imports_downstream(package: str) -> None:
    downstream = set(ORDER[ORDER.index(package) + 1 :])
    strangers = {other for one, other in STRANGERS if one == package}
    modules = list((PACKAGE / package).glob("*.py"))
    assert modules
    for path in modules:
        assert not imports(path) & (downstream | strangers), path


def test_every_package_has_its_place_in_the_order() -> None:
    assert {path.parent.name for path in PACKAGE.glob("*/__init__.py")} == set(ORDER)
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    listed = set(config["options"]["packages"].split())
    assert listed == {"ranet", "ranet.conf", *(f"ranet.{package}" for package in ORDER)}


def test_the_wheel_brings_configuration_and_data_and_works_anywhere(tmp_path: Path) -> None:
    build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "-w", tmp_path, ROOT]
    subprocess.run(build, check=True, cwd=tmp_path)
    (wheel,) = tmp_path.glob("*.whl")
    site, elsewhere = tmp_path / "site", tmp_path / "elsewhere"
    elsewhere.mkdir()
    with zipfile.ZipFile(wheel) as file:
        file.extractall(site)
        names = set(file.namelist())
    for path in (ROOT / "conf").rglob("*.yaml"):
        assert f"ranet/conf/{path.relative_to(ROOT / 'conf')}" in names
    for path in (ROOT / "experiments" / "experiment").glob("*.yaml"):
        assert f"ranet/conf/experiment/{path.name}" in names
    assert {"ranet/py.typed", "ranet/evaluation/published_points.csv"} <= names

    # A process that finds the wheel's files before this checkout, in a folder that has nothing to do with it.
    script = (
        "import sys, ranet; assert ranet.__file__.startswith(sys.argv.pop(1)), ranet.__file__;"
        "from ranet.cli.main import main; main()"
    )
    command = [
        sys.executable,
        "-c",
        script,
        str(site),
        "train",
        "+experiment=published_cifar10_anytime",
        "--cfg",
        "job",
    ]
    shown = subprocess.run(
        command,
        check=True,
        cwd=elsewhere,
        env={"PYTHONPATH": str(site), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
    )
    assert "max_epochs: 300" in shown.stdout
    assert not list(elsewhere.iterdir())
