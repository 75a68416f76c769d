"""The public benchmarks: any method or results in files, scored as the official evaluations do (docs/evaluation.md)."""

from crowdmesh.benchmarks.photos import Photo, find_photos
from crowdmesh.benchmarks.predictions import read_predictions
from crowdmesh.benchmarks.reconstructor import ExpertLine, RecordedScenes, SceneReconstructor, Scenes
from crowdmesh.benchmarks.registry import BENCHMARKS, Benchmark, run
from crowdmesh.benchmarks.result import Figure, Result

__all__ = [
    "BENCHMARKS",
    "Benchmark",
    "ExpertLine",
    "Figure",
    "Photo",
    "RecordedScenes",
    "Result",
    "SceneReconstructor",
    "Scenes",
    "find_photos",
    "read_predictions",
    "run",
]
