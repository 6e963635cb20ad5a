"""Files that are either whole or not there."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def default_cache() -> Path:
    """Where what was computed once is kept: $RANET_CACHE, or else ``ranet`` in $XDG_CACHE_HOME or in ``~/.cache``."""
    if os.environ.get("RANET_CACHE"):
        return Path(os.environ["RANET_CACHE"]).expanduser()
    base = os.environ.get("XDG_CACHE_HOME", "")
    # The XDG base directory specification wants relative paths ignored.
    return (Path(base) if Path(base).is_absolute() else Path.home() / ".cache") / "ranet"


@contextmanager
def written_whole(path: str | Path) -> Iterator[Path]:
    """Give a path beside ``path`` to write to, and rename it to ``path`` only when the block ends without an error.

    A reader never sees a half-written file, and a run that dies while writing leaves the earlier file as it was.
    The temporary name keeps the suffix of ``path``, because writers (matplotlib, NumPy) choose the format by it.

    Example:
        >>> import tempfile
        >>> target = Path(tempfile.mkdtemp()) / "note.txt"
        >>> with written_whole(target) as partial:
        ...     _ = partial.write_text("whole")
        >>> target.read_text()
        'whole'
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.stem}.{os.getpid()}.partial{path.suffix}")
    try:
        yield partial
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
