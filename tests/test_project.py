"""The structure of the project: who may import whom, and what travels in the wheel."""

import ast
import configparser
import subprocess
import sys
import zipfile
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "src" / "ranet"
# As the data goes. A package imports those before it and itself.
ORDER = [
    *("support", "images", "data", "models", "cost", "training", "calibration", "evaluation", "inference"),
    *("benchmark", "cli"),
]
# Beside each other in the flow: neither knows the other.
STRANGERS = {("models", "data"), ("cost", "data"), ("calibration", "data"), ("calibration", "models"),
             ("calibration", "training"), ("evaluation", "training"), ("evaluation", "data"),
             ("inference", "training"), ("inference", "data"), ("benchmark", "training"),
             ("benchmark", "data")}  # fmt: skip
MODULES = {
    ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts): path
    for path in PACKAGE.rglob("*.py")
    if path.name != "__init__.py"
}


def imports(path: Path) -> set[str]:
    """The modules of ranet that a file imports, however it says it; of a package, the package."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports relatively"
            named = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= {name for name in named if name in MODULES} or {str(node.module)}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    return {name for name in found if name.startswith("ranet.")}


def folder_of(module: str) -> str:
    """The folder of a module, as dotted names below ranet; a package is its own."""
    return (module.rpartition(".")[0] if module in MODULES else module).removeprefix("ranet").removeprefix(".")


@pytest.mark.parametrize("package", ORDER)
def test_nothing_upstream_imports_downstream(package: str) -> None:
    strangers = {other for one, other in STRANGERS if one == package}
    allowed = {"errors", *ORDER[: ORDER.index(package) + 1]} - strangers
    modules = list((PACKAGE / package).rglob("*.py"))
    assert modules
    for path in modules:
        assert {name.split(".")[1] for name in imports(path)} <= allowed, path


def test_no_two_folders_import_each_other() -> None:
    """Folders beside each other import in one direction; a folder and one inside it may know each other."""
    graph: dict[str, set[str]] = {}
    for name, path in MODULES.items():
        here = folder_of(name)
        for there in map(folder_of, imports(path)):
            if not f"{here}.".startswith(f"{there}.") and not f"{there}.".startswith(f"{here}."):
                graph.setdefault(here, set()).add(there)
    list(TopologicalSorter(graph).static_order())  # raises CycleError


def test_a_folder_has_few_entries() -> None:
    for folder in {path.parent for path in MODULES.values()}:
        entries = [path for path in folder.iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()]
        assert len(entries) - 1 <= 14, folder


def test_every_package_is_installed() -> None:
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    found = {".".join(path.parent.relative_to(PACKAGE.parent).parts) for path in PACKAGE.rglob("__init__.py")}
    assert {name.split(".")[1] for name in found if "." in name} == set(ORDER)
    assert set(config["options"]["packages"].split()) == {"ranet.conf", *found}


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
    assert {"ranet/py.typed", "ranet/evaluation/curves/published_points.csv"} <= names

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
