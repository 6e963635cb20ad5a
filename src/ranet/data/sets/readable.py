"""Image files of a data set that cannot be read: the command stops, or they are left out."""

from __future__ import annotations

import logging
from typing import Literal, get_args

import torch
from pytorch_lightning.utilities.rank_zero import rank_zero_only

from ranet.data.sets.sources import FileSet
from ranet.errors import UserError
from ranet.images.readable import find_unreadable

OnBad = Literal["stop", "skip"]
ON_BAD: tuple[OnBad, ...] = get_args(OnBad)
_NAMED = 10
_log = logging.getLogger(__name__)


def readable(files: FileSet, on_bad: OnBad) -> FileSet:
    """Return the files that can be read as images.

    Args:
        files: the files of a folder of classes.
        on_bad: for files that cannot be read, "stop" raises an error that names them; "skip" logs their number and
            leaves them out.

    Raises:
        UserError: if some files cannot be read and ``on_bad`` is "stop", or none can be read.
    """
    names = files.names()
    refused = find_unreadable(files.folder, names)
    if not refused:
        return files
    count = f"{len(refused):,} of {len(files):,} images in {files.folder} cannot be used"
    if on_bad == "stop" or len(refused) == len(files):
        lines = [f"  {names[index]} {reason}" for index, reason in [*refused.items()][:_NAMED]]
        if len(refused) > _NAMED:
            lines.append(f"  and {len(refused) - _NAMED:,} more")
        what_to_do = "Mend or remove them" + (", or leave them out with data.on_bad=skip." if on_bad == "stop" else ".")
        raise UserError("\n".join([f"{count}:", *lines, what_to_do]))
    first = next(iter(refused))
    rank_zero_only(_log.info)("%s and are left out, such as %s, which %s.", count, names[first], refused[first])
    stays = torch.ones(len(files), dtype=torch.bool)
    stays[list(refused)] = False
    return files.subset(stays.nonzero().flatten())
