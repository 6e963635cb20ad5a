"""Networks by name: families (classes) and presets (a family with the options of a published or useful network)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatch
from importlib import import_module
from typing import TYPE_CHECKING, Any

from ranet.errors import UserError, require_known

if TYPE_CHECKING:
    from ranet.models.staged import StagedNetwork


@dataclass(frozen=True)
class Family:
    """A kind of network; its class and PyTorch are imported only when a network is built.

    Attributes:
        name: of the family.
        module: module of its class.
        class_name: name of its class, a staged network, or of a function that returns one.
        options: every argument of the class with its default.
    """

    name: str
    module: str
    class_name: str
    options: Mapping[str, Any]

    def load(self) -> Callable[..., StagedNetwork]:
        """Import and return the class."""
        network: Callable[..., StagedNetwork] = getattr(import_module(self.module), self.class_name)
        return network


@dataclass(frozen=True)
class Preset:
    """A named network: its family, what it is, and the options that differ from the family's defaults."""

    name: str
    family: str
    about: str
    options: dict[str, Any]

    @property
    def published(self) -> bool:
        """Whether it is a network of the papers."""
        return self.about.startswith("published")


_families: dict[str, Family] = {}
_presets: dict[str, Preset] = {}


def register_family(name: str, module: str, class_name: str, **options: Any) -> None:
    """Register a staged network for ``create_network``; see `Family` for the arguments."""
    _families[name] = Family(name, module, class_name, options)


def register_network(name: str, family: str, about: str, **options: Any) -> None:
    """Register a preset for ``create_network`` and, as ``model=name``, for the commands."""
    _presets[name] = Preset(name, family, about, options)


def list_networks(pattern: str = "*") -> list[str]:
    """Return the names of the presets that match a shell pattern, sorted.

    Example:
        >>> list_networks("ranet_cifar_b*")
        ['ranet_cifar_budgeted_1', 'ranet_cifar_budgeted_2', 'ranet_cifar_budgeted_3']
    """
    return sorted(name for name in _presets if fnmatch(name, pattern))


def list_families() -> list[str]:
    """Return the names of the families, sorted.

    Example:
        >>> list_families()
        ['msdnet', 'ranet', 'resnet_cifar', 'with_exits']
    """
    return sorted(_families)


def network_preset(name: str) -> Preset:
    """Return the preset of this name; the name of a family is the family with its default options.

    Raises:
        UserError: if there is no such preset or family.
    """
    if name in _families:
        return Preset(name, name, f"{_families[name].class_name} with your options", {})
    require_known("network", name, [*_presets, *_families])
    return _presets[name]


def option_defaults(name: str) -> dict[str, Any]:
    """Return all options of a preset or family with their default values."""
    preset = network_preset(name)
    return {**_families[preset.family].options, **preset.options}


def is_published(name: str, options: Mapping[str, Any]) -> bool:
    """Return whether a network is a published preset with no option changed but the class count.

    Example:
        >>> is_published("ranet_cifar_anytime", {"num_classes": 100, "growth": 6})
        True
        >>> is_published("ranet_cifar_anytime", {"num_classes": 100, "growth": 8})
        False
    """
    usual = {**option_defaults(name), "num_classes": options.get("num_classes")}
    plain = {option: tuple(value) if isinstance(value, list) else value for option, value in options.items()}
    return network_preset(name).published and all(usual[option] == value for option, value in plain.items())


def create_network(name_or_family: str, **options: Any) -> StagedNetwork:
    """Build a network with fresh weights.

    Args:
        name_or_family: a preset (``list_networks()``) or a family (`list_families()`).
        options: options of the family, which override those of the preset.

    Raises:
        UserError: if the name or an option is unknown, or no network can be built from the options.

    Example:
        >>> create_network("ranet_cifar_budgeted_1", num_classes=100).num_exits
        6
    """
    preset = network_preset(name_or_family)
    family = _families[preset.family]
    for option in options:
        require_known(f"option of {preset.family}", option, family.options)
    try:
        return family.load()(**{**preset.options, **options})
    except TypeError as error:
        raise UserError(f"{name_or_family} cannot be built from these options: {error}.") from error
