"""A built set in the layouts of others: the released one of DTO-Humans, and tar shards for training."""

from crowdmesh.pgt.export.official import OfficialExport, OfficialFile, export_official
from crowdmesh.pgt.export.packed import PackedImage, read_webdataset
from crowdmesh.pgt.export.webdataset import PackedDataset, WebdatasetExport, export_webdataset

__all__ = [
    "OfficialExport",
    "OfficialFile",
    "PackedDataset",
    "PackedImage",
    "WebdatasetExport",
    "export_official",
    "export_webdataset",
    "read_webdataset",
]
