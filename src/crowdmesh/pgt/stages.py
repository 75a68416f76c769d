"""What is done with every image, as three stages that a builder calls one after the other with groups of images."""

from __future__ import annotations

import errno
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import torch

from crowdmesh.body import body_of
from crowdmesh.depth import RelativeDepth
from crowdmesh.dto import DTOConfig, Placement, place
from crowdmesh.dto.place import known_size, posed_scene
from crowdmesh.errors import AssetError, CrowdMeshError, FormatError, InputError
from crowdmesh.experts import ExpertOptions, Experts, load_experts
from crowdmesh.experts.first_guess import first_guesses
from crowdmesh.experts.nothing import check_finds_people
from crowdmesh.images import decode_image, encoded_size
from crowdmesh.pgt.given_people import OtherBodyError, guess_given, input_image
from crowdmesh.pgt.records import Built, Guessed, ImageFile, Loaded, Outcome, Sample
from crowdmesh.pgt.sources._image_files import content_of
from crowdmesh.scene import Scene

Item = TypeVar("Item")
Answer = TypeVar("Answer")

LARGEST_PX = 200_000_000
"""Most pixels of an image that is looked at; it bounds the memory of a worker, some 600 MB for the pixels alone."""

_FULL_DISK = frozenset({errno.ENOSPC, errno.EDQUOT})
_DEVICE_ERRORS = (torch.OutOfMemoryError, getattr(torch, "AcceleratorError", torch.OutOfMemoryError))  # by version


@dataclass(frozen=True)
class ExpertChoice:
    """A set of experts by name with the user's own choices: light, and fit to be sent to other processes."""

    name: str
    options: ExpertOptions

    def load(self) -> Experts:
        """The experts themselves.

        Raises:
            InputError: unknown names, or experts that do not fit together. AssetError: weights are missing.
        """
        return load_experts(self.name, options=self.options)


class ReadImages:
    """Samples to images that were read: each file once, for its digest, its size and its pixels.

    What cannot become part of a set ends here: samples with a problem, labels that are not those of the image or have
    no parameters, files that cannot be read.

    Args:
        pixels: whether later stages look at the image. If none does, only its header is read, and one that is not
            there is no failure.
    """

    def __init__(self, pixels: bool) -> None:
        self.pixels = pixels

    def __call__(self, samples: Sequence[Sample]) -> list[Loaded | Built]:
        """One answer per sample, in order.

        Raises:
            DiskError (an InputError): the disk or share of the images cannot be read at the moment, whichever image.
        """
        return [self._read(sample) for sample in samples]

    def _read(self, sample: Sample) -> Loaded | Built:
        entry = sample.entry
        if sample.problem is not None:
            return Built(entry, *sample.problem)
        try:
            data = _content(sample)
        except OSError as error:  # of this image alone
            return Built(entry, Outcome.IMAGE_UNREADABLE, f"cannot read image {entry.path}: {error.strerror}")
        if data is None and self.pixels:
            return Built(entry, Outcome.IMAGE_MISSING, f"image {entry.path} is not there")
        loaded = Loaded(sample)
        if data is not None:
            try:
                height, width = encoded_size(data, entry.path)
                if self.pixels and height * width > LARGEST_PX:
                    raise FormatError(
                        f"image {entry.path} has {width}x{height} pixels, and sets are made of at most "
                        f"{LARGEST_PX / 1e6:.0f} megapixels an image; give a smaller copy of it"
                    )
                pixels = decode_image(data, entry.path) if self.pixels else None
            except CrowdMeshError as error:
                return Built(entry, Outcome.IMAGE_UNREADABLE, str(error))
            file = ImageFile(len(data), hashlib.sha256(data).hexdigest(), width, height)
            loaded = Loaded(sample, pixels, file)
        problem = _problem_of_labels(loaded)
        return loaded if problem is None else Built(entry, Outcome.LABELS_INVALID, problem, loaded.file)


class FirstGuess:
    """Images to first guesses of their people and depth maps; what failed before passes unchanged.

    People that the source has are completed (:mod:`crowdmesh.pgt.given_people`), others are found by the experts. When
    a group fails, its images are tried one by one, so that the bad one is named and the rest go on.

    Args:
        experts: ``None``: nobody is asked, all people and depth maps come from the source.
        add_people: whether people whom the experts find and the source lacks are added.
        placing: whether people are to be placed; else they are taken over as they are, and need no depth map.

    Raises:
        InputError: people are to be added by experts that make no bodies, or by none.
    """

    def __init__(self, experts: Experts | None, add_people: bool, placing: bool = True) -> None:
        if add_people and (experts is None or not placing):
            raise InputError("people can be added only by experts and where people are placed; leave one of both out")
        if add_people and experts is not None:
            check_finds_people(experts)
        self.experts, self.add_people, self.placing = experts, add_people, placing

    def __call__(self, loaded: Sequence[Loaded | Built]) -> list[Guessed | Built]:
        """One answer per image, in order; ``Outcome.FAILED`` with the reason where it cannot be given.

        Raises:
            AssetError, MemoryError, torch.OutOfMemoryError, torch.AcceleratorError, OSError (full disk): no other
                image would fare better.
            InputError: people are to be added whose body is not that of the labels.
        """
        answers: list[Guessed | Built | None] = [one if isinstance(one, Built) else None for one in loaded]
        waiting = [(k, one) for k, one in enumerate(loaded) if isinstance(one, Loaded)]
        for given in (True, False):
            part = [(k, one) for k, one in waiting if (one.sample.people is not None) == given]
            found = together_or_alone(self._given if given else self._found, [one for _, one in part])
            for (k, one), answer in zip(part, found, strict=True):
                answers[k] = failed(one, answer) if isinstance(answer, Exception) else answer
        return self._with_depth(answers)

    def _given(self, images: Sequence[Loaded]) -> list[Guessed]:
        return guess_given(self.experts if self.placing else None, images, self.add_people)

    def _found(self, images: Sequence[Loaded]) -> list[Guessed]:
        if self.experts is None:
            raise InputError("nothing is known of the people in it; choose experts to find them")
        check_finds_people(self.experts)
        guesses = first_guesses(self.experts, [input_image(one) for one in images])
        return [
            Guessed(
                one,
                replace(guess.scene, image=None),
                one.sample.depth,
                ("detected",) * len(guess.scene.people),
                focal_std=guess.focal_std,
                notes=guess.notes,
            )
            for one, guess in zip(images, guesses, strict=True)
        ]

    def _with_depth(self, answers: Sequence[Guessed | Built | None]) -> list[Guessed | Built]:
        """The same with the depth maps that are wanted and not there yet."""
        done: list[Guessed | Built] = [one for one in answers if one is not None]
        if not self.placing:
            return done
        lacking = [
            (k, one)
            for k, one in enumerate(done)
            if isinstance(one, Guessed) and one.depth is None and len(one.scene.people)
        ]
        maps = together_or_alone(self._depths, [one.loaded for _, one in lacking])
        for (k, one), answer in zip(lacking, maps, strict=True):
            bad = isinstance(answer, Exception)
            done[k] = failed(one.loaded, answer) if bad else replace(one, depth=answer)
        return done

    def _depths(self, images: Sequence[Loaded]) -> list[RelativeDepth]:
        if self.experts is None:
            raise InputError("the source has no depth map of it; choose a depth expert")
        return self.experts.depth.estimate([input_image(one) for one in images])


class Place:
    """First guesses to people in their place; what failed before passes unchanged.

    Args:
        config: how; ``None``: people are taken over as they are.
    """

    def __init__(self, config: DTOConfig | None) -> None:
        self.config = config

    def __call__(self, guessed: Sequence[Guessed | Built]) -> list[Built]:
        """One answer per image, in order; ``Outcome.FAILED`` with the reason where people cannot be placed.

        Raises:
            AssetError, MemoryError, torch.OutOfMemoryError, torch.AcceleratorError, OSError (full disk): no other
                image would fare better.
        """
        done = []
        for one in guessed:
            if isinstance(one, Guessed):
                answer = together_or_alone(lambda group: [self._place(group[0])], [one])[0]
                one = failed(one.loaded, answer) if isinstance(answer, Exception) else answer
            done.append(one)
        return done

    def _place(self, guessed: Guessed) -> Built:
        before = after = guessed.scene
        placement, notes = None, guessed.notes
        if not len(before.people):
            outcome = Outcome.NOBODY
        elif self.config is None:
            outcome = Outcome.TAKEN_OVER
        else:
            if guessed.depth is None:
                raise InputError("people are to be placed without a depth map; give the stage before what it needs")
            body = body_of(before.people)
            before = posed_scene(before, body)
            after, placement = place(before, guessed.depth, self.config.with_focal_std(guessed.focal_std), body)
            outcome, notes = outcome_of(placement, after, self.config), (*notes, *placement.notes)
        return Built(
            entry=guessed.loaded.sample.entry,
            outcome=outcome,
            file=guessed.loaded.file,
            before=_parameters(before),
            after=_parameters(after),
            placement=placement,
            origins=guessed.origins,
            label_rows=guessed.label_rows,
            focal_std=guessed.focal_std,
            notes=notes,
        )


def make_stages(
    experts: ExpertChoice | None, config: DTOConfig | None, add_people: bool, needs_experts: bool
) -> tuple[ReadImages, FirstGuess, Place]:
    """The stages of one build, with their experts loaded.

    Args:
        experts: ``None``: the source has all that is needed.
        config: how people are placed; ``None``: not at all, and experts are asked only for people that the source has
            not.
        add_people: whether people whom the experts find and the source lacks are added.
        needs_experts: whether images come without people.

    Raises:
        InputError: experts are needed and not given, or do not do what is needed. AssetError: weights are missing.
    """
    if needs_experts and experts is None:
        raise InputError("the source knows nobody in its images; choose experts to find people")
    used = experts.load() if experts is not None and (needs_experts or config is not None) else None
    if needs_experts and used is not None:
        check_finds_people(used)
    return ReadImages(used is not None), FirstGuess(used, add_people, config is not None), Place(config)


def outcome_of(placement: Placement, scene: Scene, config: DTOConfig) -> Outcome:
    """What becomes of an image with people who were to be placed.

    Unknown ages count before the score, so that another threshold of the score changes nothing about them.
    """
    if placement.score == float("inf"):
        return Outcome.FEWER_THAN_TWO
    if known_size(scene.people).sum() < config.min_known_ages * len(scene.people):
        return Outcome.AGES_UNKNOWN
    if not placement.score < config.accept_below:
        return Outcome.SCORE_TOO_HIGH
    return Outcome.ACCEPTED if placement.accepted else Outcome.FEWER_THAN_TWO


def together_or_alone(
    work: Callable[[Sequence[Item]], Sequence[Answer]], items: Sequence[Item]
) -> list[Answer | Exception]:
    """The answer about each item: from one call for all of them if that works, else one by one.

    Raises:
        AssetError, MemoryError, torch.OutOfMemoryError, torch.AcceleratorError, RuntimeError (CUDA error), OSError
            (full disk), OtherBodyError: nothing that one item is to blame for.
    """
    if not items:
        return []
    try:
        return list(work(items))
    except Exception as error:  # one image must not stop a million: name it and go on
        if _is_nobodys_fault(error):
            raise
        return [error] if len(items) == 1 else [one for item in items for one in together_or_alone(work, [item])]


def _is_nobodys_fault(error: Exception) -> bool:
    """Whether no item is to blame, so that none would fare better."""
    if isinstance(error, (AssetError, MemoryError, OtherBodyError, *_DEVICE_ERRORS)):
        return True
    if isinstance(error, OSError):
        return error.errno in _FULL_DISK
    return isinstance(error, RuntimeError) and str(error).startswith("CUDA error")  # the process can use it no more


def failed(loaded: Loaded, error: Exception) -> Built:
    """An image about which nothing could be found out, with the reason."""
    known = isinstance(error, (CrowdMeshError, OSError))
    said = str(error) if known else f"unexpected {type(error).__name__}, please report it: {error}"
    return Built(loaded.sample.entry, Outcome.FAILED, " ".join(said.split()), loaded.file)


def _content(sample: Sample) -> bytes | None:
    """The encoded file; ``None`` if there is none."""
    if sample.encoded is not None or sample.image is None:
        return sample.encoded
    try:
        return content_of(sample.image)
    except FileNotFoundError:
        return None


def _problem_of_labels(loaded: Loaded) -> str | None:
    """Why the people that a source gives cannot be those of an image, one sentence; ``None``: they can."""
    scene, file = loaded.sample.people, loaded.file
    if scene is None:
        return None
    if scene.people.pose is None or scene.people.shape is None:
        return f"its people are {scene.people.body} surfaces without pose and shape; a set holds parameters of a body"
    camera = scene.camera
    if file is not None and (file.width, file.height) != (camera.width, camera.height):
        return (
            f"the labels are those of an image of {camera.width}x{camera.height} pixels, but the image has "
            f"{file.width}x{file.height}"
        )
    return None


def _parameters(scene: Scene) -> Scene:
    """The scene without what is large and follows from the rest, or stays outside the set."""
    return replace(scene, image=None, people=replace(scene.people, vertices_m=None, masks=None))
