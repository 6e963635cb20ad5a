"""Early exit for real: the engine, the runtimes that it computes with, and the export of a network for serving."""

from typing import TYPE_CHECKING

from ranet.lazy import lazy_exports

if TYPE_CHECKING:
    from ranet.inference.answers import Answers
    from ranet.inference.engine import EarlyExitEngine
    from ranet.inference.export import Export, export_engine
    from ranet.inference.exported_folder import ExportedFolder
    from ranet.inference.latency import measure_latency
    from ranet.inference.latency_profile import LatencyProfile
    from ranet.inference.timings import Timings

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
_PARTS = {
    "ranet.inference.answers": ["Answers"],
    "ranet.inference.engine": ["EarlyExitEngine"],
    "ranet.inference.export": ["Export", "export_engine"],
    "ranet.inference.exported_folder": ["ExportedFolder"],
    "ranet.inference.latency": ["measure_latency"],
    "ranet.inference.latency_profile": ["LatencyProfile"],
    "ranet.inference.timings": ["Timings"],
}
__getattr__, __dir__ = lazy_exports(__name__, _PARTS)
