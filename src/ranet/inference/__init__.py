"""Early exit for real: the engine, the runtimes that it computes with, and the export of a network for serving."""

from typing import TYPE_CHECKING

from ranet.lazy import lazy_exports

if TYPE_CHECKING:
    from ranet.inference.answers import Answers
    from ranet.inference.engine import EarlyExitEngine

__all__ = ["EarlyExitEngine", "Answers"]
_PARTS = {
    "ranet.inference.answers": ["Answers"],
    "ranet.inference.engine": ["EarlyExitEngine"],
}
__getattr__, __dir__ = lazy_exports(__name__, _PARTS)
