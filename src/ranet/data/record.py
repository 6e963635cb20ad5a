"""The record of a training run's data, so that later commands use the same classes and held-out images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from ranet.errors import UserError

_NAMED = 5  # how many classes or images a sentence names


@dataclass(frozen=True)
class DataRecord:
    """The classes and images of a training run, stored in its checkpoints."""

    name: str  # name of the data set
    root: str | None  # absolute path of its folder at the time of training; None for data without files
    classes: tuple[str, ...]  # names of the classes in the order of the labels
    # Held out for validation: paths relative to their folder, or indices (CIFAR); None if they are a separate set.
    held_out: tuple[str, ...] | tuple[int, ...] | None
    images: dict[str, int]  # number of images of each split
    # Of pixels and labels for data in memory; for files of relative paths, sizes and labels, wherever they are.
    digests: dict[str, str]
    held_out_of: str = "train"  # the images that they were held out of, "train" or "test"

    def to_dict(self) -> dict[str, Any]:
        """Return the record as plain lists, strings and numbers, for a checkpoint."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}

    @classmethod
    def from_recipe(cls, recipe: Mapping[str, Any]) -> DataRecord | None:
        """Return the record from the recipe of a checkpoint; None if it has none."""
        content = recipe.get("record")
        if content is None:
            return None
        frozen: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in content.items()}
        return cls(**frozen)

    @property
    def summary(self) -> dict[str, Any]:
        """The entries about the data in policies and exports: name, classes and digests."""
        return {"name": self.name, "classes": list(self.classes), "digests": self.digests}

    def require_classes(self, classes: Sequence[str], of: str) -> None:
        """Raise a UserError, which names the owner of the classes, unless they have the same names in any order."""
        missing, unknown = sorted({*self.classes} - {*classes}), sorted({*classes} - {*self.classes})
        if missing or unknown:
            parts = [f"{what}: {_listed(names)}" for what, names in (("missing", missing), ("new", unknown)) if names]
            raise UserError(
                f"{of} has other classes than the network was trained on ({'; '.join(parts)}); rename the classes "
                "as they were, or train again."
            )

    def require_same(self, now: DataRecord, where: str) -> None:
        """Raise a UserError unless a run with this record, in this folder, can be resumed on the current data."""
        self.require_classes(now.classes, f"The data of {where}")
        for split, digest in self.digests.items():
            if now.digests[split] != digest:
                raise UserError(
                    f"The {split} images changed since {where} was trained on them (it had {self.images[split]:,}, now "
                    f"there are {now.images[split]:,}): put them back as they were, or choose another run=."
                )
        if now.classes != self.classes:
            raise UserError(f"The order of the classes changed since {where} was trained; choose another run=.")


def _listed(names: Sequence[str]) -> str:
    more = f", ... ({len(names)} in all)" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more
