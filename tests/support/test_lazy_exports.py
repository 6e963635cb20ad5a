"""What the package imports, and when."""

import ast
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

import ranet


def named_for_type_checkers(path: Path) -> dict[str, str]:
    """The names that type checkers see a package import, and the modules that they come from."""
    (block,) = [node for node in ast.parse(path.read_text()).body if isinstance(node, ast.If)]
    assert ast.unparse(block.test) == "TYPE_CHECKING"
    imports = [node for node in block.body if isinstance(node, ast.ImportFrom)]
    return {alias.name: str(node.module) for node in imports for alias in node.names}


@pytest.mark.parametrize("package", ["ranet", "ranet.calibration", "ranet.models"])
def test_every_public_name_is_what_type_checkers_see(package: str) -> None:
    lazy = import_module(package)
    seen = named_for_type_checkers(Path(str(lazy.__file__)))
    assert set(seen) == set(lazy.__all__)
    for name, module in seen.items():
        assert getattr(lazy, name) is getattr(sys.modules[module], name)
        assert name in dir(lazy)


def test_an_unknown_name_is_said_like_any_other() -> None:
    with pytest.raises(AttributeError, match="module 'ranet' has no attribute 'calibrat'"):
        _ = ranet.calibrat
    with pytest.raises(ImportError):
        exec("from ranet import nothing")


@pytest.mark.parametrize(
    "code",
    [
        "import ranet; dir(ranet)",
        "from ranet.calibration import ExitPolicy, load_policy; ExitPolicy((0.5,)).save('p'); load_policy('p')",
        "from ranet.models import list_networks; list_networks()",
        "import sys; sys.argv = ['ranet', '--help']; import ranet.cli.main as m; m._help()",
    ],
)
def test_what_needs_no_network_starts_without_pytorch(code: str, tmp_path: Path) -> None:
    check = f"{code}; import sys; assert not {{'torch', 'pytorch_lightning', 'hydra'}} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", check], check=True, cwd=tmp_path)
