"""What every figure needs that is drawn with matplotlib, which not everybody has."""

from __future__ import annotations

from crowdmesh.errors import AssetError


def require_plots(of: str) -> None:
    """Refuse before a long run rather than after it.

    Args:
        of: whose figures they are, for the message.

    Raises:
        AssetError: matplotlib is not installed.
    """
    try:
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise AssetError(
            f"the figures of the {of} need matplotlib, which is not installed; run: pip install 'crowdmesh[plots]'"
        ) from error
