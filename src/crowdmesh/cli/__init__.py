"""The command line: each verb parses its arguments, calls one function and prints."""

from __future__ import annotations

import sys

import tyro

from crowdmesh._terminal import console, table
from crowdmesh.cli.judging import bench, demo, evaluate, synth
from crowdmesh.cli.networks import convert, download
from crowdmesh.cli.photos import place, predict, reconstruct
from crowdmesh.cli.seeing import export, view
from crowdmesh.cli.sets import build, report
from crowdmesh.cli.training import data, train
from crowdmesh.cli.video import track
from crowdmesh.errors import CrowdMeshError


def doctor() -> int:
    """What is installed, which body models and weights are present, and the next step for what is missing."""
    from crowdmesh.doctor import examine

    rows = table("", "what", "found", "next step")
    for finding in examine():
        rows.add_row(
            "ok" if finding.fine else "--", f"{finding.topic}: {finding.name}", finding.found, finding.next_step
        )
    console().print(rows)
    return 0


def main(arguments: list[str] | None = None) -> int:
    """Entry point of the ``crowdmesh`` command; returns the exit code."""
    verbs = {
        "reconstruct": reconstruct, "track": track, "predict": predict, "place": place, "view": view,
        "export": export, "build": build, "report": report, "evaluate": evaluate, "synth": synth, "bench": bench,
        "demo": demo, "train": train, "data": data,
        "download": download, "convert": convert, "doctor": doctor,
    }  # fmt: skip
    try:
        return tyro.extras.subcommand_cli_from_dict(
            verbs, prog="crowdmesh", description="Several people, one photograph, one metric space.", args=arguments
        )
    except CrowdMeshError as error:
        print(f"crowdmesh: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"crowdmesh: {error.strerror or error}: {error.filename or ''}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(
            "crowdmesh: interrupted; files written so far are complete; the same command goes on from there",
            file=sys.stderr,
        )
        return 130
