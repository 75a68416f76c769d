"""What a set holds, as a page with figures, tables and a contact sheet."""

from crowdmesh.pgt.report.photographs import photographs_below
from crowdmesh.pgt.report.write import Report, write_report

__all__ = ["Report", "photographs_below", "write_report"]
