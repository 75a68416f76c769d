"""What every data set to train on offers."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from crowdmesh.training.sample import TrainingSample


@runtime_checkable
class Dataset(Protocol):
    """Images with labelled people, in a fixed order.

    An object of it holds plain values, arrays and paths alone, so that it goes cheaply to the processes that read
    images; files are opened where a sample is asked for.
    """

    @property
    def name(self) -> str:
        """What it is called in the catalogue."""
        ...

    def __len__(self) -> int:
        """Number of images."""
        ...

    def sample(self, index: int) -> TrainingSample:
        """One image with its labels; the pixels are not read.

        Raises:
            FormatError, InputError: this record cannot be used; names file, image and field.
        """
        ...
