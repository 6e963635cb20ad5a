"""Early exit for real: the engine, the runtimes that it computes with, and the export of a network for serving."""

from typing import TYPE_CHECKING

from ranet.support.lazy_exports import lazy_exports

if TYPE_CHECKING:
    from ranet.cost.timings import Timings
    from ranet.inference.choosing.latency import measure_latency
    from ranet.inference.choosing.latency_profile import LatencyProfile
    from ranet.inference.engine.answers import Answers
    from ranet.inference.engine.engine import EarlyExitEngine
    from ranet.inference.exported.export import Export, export_engine
    from ranet.inference.exported.folder import ExportedFolder

__all__ = [
    "EarlyExitEngine",
    "Answers",
    "export_engine",
    "Export",
    "ExportedFolder",
    "measure_latency",
    "LatencyProfile",
    "Timings",
]
__getattr__, __dir__ = lazy_exports(__name__)
