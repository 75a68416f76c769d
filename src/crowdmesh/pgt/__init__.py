"""Sets of placed people from millions of images: built in shards, stopped and resumed at will (docs/dataset.md)."""

from crowdmesh.pgt.builder import BuildShards
from crowdmesh.pgt.export import export_official, export_webdataset, read_webdataset
from crowdmesh.pgt.job import Job
from crowdmesh.pgt.manifest import Manifest, read_manifest
from crowdmesh.pgt.reading import BuiltScene, BuiltSet, open_set
from crowdmesh.pgt.records import Entry, ImageFile, Outcome, Sample
from crowdmesh.pgt.report import Report, photographs_below, write_report
from crowdmesh.pgt.run import Prepared, Progress, build, prepare
from crowdmesh.pgt.runners import run_here, run_processes, run_ray
from crowdmesh.pgt.sources import (
    ImageFolder,
    LabelSource,
    RelativeHumanSource,
    SceneSource,
    Source,
    SyntheticSource,
)
from crowdmesh.pgt.stages import ExpertChoice

__all__ = [
    "BuildShards",
    "BuiltScene",
    "BuiltSet",
    "Entry",
    "ExpertChoice",
    "ImageFile",
    "ImageFolder",
    "Job",
    "LabelSource",
    "Manifest",
    "Outcome",
    "Prepared",
    "Progress",
    "RelativeHumanSource",
    "Report",
    "Sample",
    "SceneSource",
    "Source",
    "SyntheticSource",
    "build",
    "export_official",
    "export_webdataset",
    "open_set",
    "photographs_below",
    "prepare",
    "read_manifest",
    "read_webdataset",
    "run_here",
    "run_processes",
    "run_ray",
    "write_report",
]
