"""DTO for the frames of a video: nobody's height changes from frame to frame.

Each frame has a depth map with a transform of its own; each track, one person through the frames, has one stature.
Both are found together (``_track_fused.py`` for ``best``, ``_track_affine.py`` for the paper's solver). At the end all
frames of a track have that stature, and each stands where a body of that stature covers its image: its depth is the
first one times the stature over the first stature. Also age, sex and the shape parameters are those of the track.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float, Int

from crowdmesh.body import BodyModel, body_of
from crowdmesh.depth import RelativeDepth
from crowdmesh.dto._track_affine import solve_affine
from crowdmesh.dto._track_answer import TrackAnswer
from crowdmesh.dto._track_evidence import FrameEvidence, Sightings, measure_frame, pool_evidence, sightings
from crowdmesh.dto._track_fused import solve_fused_tracks
from crowdmesh.dto.config import DTOConfig
from crowdmesh.dto.interval import UNBOUNDED
from crowdmesh.dto.known import KNOWN_STATURE_STD_M
from crowdmesh.dto.place import MIN_DEPTH_M, expected_statures, finish, posed_scene
from crowdmesh.dto.placement import Placement
from crowdmesh.dto.priors import StaturePrior
from crowdmesh.dto.reshape import reshape
from crowdmesh.dto.solution import Solution, unsolved
from crowdmesh.errors import InputError
from crowdmesh.people import People, PersonStatus
from crowdmesh.scene import Scene

__all__ = ["FrameEvidence", "PlacedTracks", "TrackConfig", "TrackSolution", "Tracks", "measure_frame", "place_tracks",
           "solve_tracks"]  # fmt: skip


@dataclass(frozen=True)
class TrackConfig:
    """What frames of one person have in common."""

    shared_error: float = 0.05
    """Relative error of depth over stature that does not average out over the frames of a track, because body fit and
    depth map err alike on one person in every frame (assumed; ``best`` only). With 0.03 synthetic frames of independent
    errors came out better, those of one error for all frames worse, with spreads too small."""
    frame_error: float = 0.06
    """Relative error of the stature that the depth map of one frame asks for, as the search for it begins: how far the
    frames of a track disagree tells it (the paper's solver only, which otherwise takes the map at its word)."""
    rounds: int = 2
    """How often the frames are read with what the others know of their people (``best`` only)."""
    pool_shape: bool = True
    """Whether everybody has the median shape of their track, before it gets its stature; else each frame its own."""

    def __post_init__(self) -> None:
        if not (0 <= self.shared_error < 1 and 0 < self.frame_error < 1) or self.rounds < 1:
            raise InputError(
                "TrackConfig needs shared_error and frame_error between 0 and 1 and at least 1 round, got "
                f"{self.shared_error}, {self.frame_error} and {self.rounds}"
            )


@dataclass(frozen=True, eq=False)
class Tracks:
    """What became of T tracks.

    Attributes:
        ids: (T,) rising. frames, evident: (T,) frames with the person, and those with depth evidence that counted.
        stature_m, stature_std_m: (T,) the stature of all their placed frames, and its posterior standard deviation;
            NaN where that is not one number: somebody was kept everywhere, or placed alone by age and sex.
        notes: what else a reader should know, one sentence each.
    """

    ids: Int[np.ndarray, " T"]
    frames: Int[np.ndarray, " T"]
    evident: Int[np.ndarray, " T"]
    stature_m: Float[np.ndarray, " T"]
    stature_std_m: Float[np.ndarray, " T"]
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True, eq=False)
class PlacedTracks:
    """The frames, placed, and the tracks through them."""

    frames: list[tuple[Scene, Placement]]
    tracks: Tracks


@dataclass(frozen=True, eq=False)
class TrackSolution:
    """The solution for a whole video, from which each frame is placed on its own."""

    config: DTOConfig
    track_config: TrackConfig
    evidence: Sequence[FrameEvidence]
    seen: Sightings
    person: People | None
    answer: TrackAnswer
    tracks: Tracks

    def place(self, frame: int, scene: Scene, body: BodyModel) -> tuple[Scene, Placement]:
        """The frame's people in their place; ``scene`` is the first guess whose evidence was measured."""
        track, evidence = self.seen.of_frame(frame), self.evidence[frame]
        scene = posed_scene(scene, body)
        solution, shared = self._solution(frame)
        evident = self.seen.split(self.answer.evident)[frame]
        moved = np.array([PersonStatus(int(s)).placed for s in solution.status], bool)
        scene = replace(scene, people=self._of_track(scene.people, track, moved))
        prior = self.answer.prior
        expected = StaturePrior(prior.mean_m[track], prior.std_m[track], prior.group[track])
        placed, placement = finish(scene, body, evidence.cues, expected, solution, reshape, self.config)
        status = np.where(moved & shared & ~evident, PersonStatus.PLACED_FROM_STATURE, placement.status)
        return replace(placed, people=replace(placed.people, status=status)), replace(placement, status=status)

    def _of_track(self, people: People, track: np.ndarray, moved: np.ndarray) -> People:
        """The people with age and sex of their tracks, and those who move with its shape too."""
        pooled = self.person
        if pooled is None or len(people) == 0:
            return people
        changes = {}
        for name in ("age_years", "age_std_years", "male_probability", "known_stature_m"):
            values = getattr(pooled, name)
            changes[name] = None if values is None else values[track]
        if self.track_config.pool_shape and pooled.shape is not None and people.shape is not None:
            changes["shape"] = np.where(moved[:, None], pooled.shape[track], people.shape)
        return replace(people, **changes)

    def _solution(self, frame: int) -> tuple[Solution, np.ndarray]:
        """The frame's solution with the statures of the tracks, and who has such a stature."""
        solution, evidence, track = self.answer.solutions[frame], self.evidence[frame], self.seen.of_frame(frame)
        evident = self.seen.split(self.answer.evident)[frame]
        size_error = self.seen.split(self.answer.size_error)[frame]
        stature, std = self.tracks.stature_m[track], self.tracks.stature_std_m[track]
        # Somebody with evidence in one frame only is there as that frame has them.
        shared = np.isfinite(stature) & (self.answer.pooled[track] | ~evident)
        ratio = np.where(shared, stature / evidence.people.stature_m, solution.depth_ratio)
        status = np.where(shared, np.where(evident, PersonStatus.PLACED, PersonStatus.PLACED_FROM_STATURE), 0)
        status = np.where(shared, status, solution.status)
        if self.config.solver == "affine":
            low, high = self.config.stature_range_m
            too_near = (evidence.cues.depth_m > 0) & (ratio * evidence.cues.depth_m < MIN_DEPTH_M)
            status = np.where(shared & too_near, PersonStatus.KEPT_IMPLAUSIBLE_DEPTH, status)
            implausible = shared & ((stature < low) | (stature > high))
            status = np.where(implausible, PersonStatus.KEPT_IMPLAUSIBLE_STATURE, status)
        spread = np.where(shared, std, solution.stature_std_m)
        solution = replace(
            solution,
            status=status.astype(np.int64),
            depth_ratio=ratio,
            stature_std_m=spread,
            size_error=np.where(shared, size_error, 0.0),
        )
        return solution, shared


def place_tracks(
    scenes: Sequence[Scene],
    depths: Sequence[RelativeDepth],
    ids: Sequence[Int[np.ndarray, " _"]],
    config: DTOConfig | None = None,
    tracks: TrackConfig | None = None,
    body: BodyModel | None = None,
) -> PlacedTracks:
    """Put the people of a video in their place, with one stature per track (ours).

    A track of one frame gives what :func:`crowdmesh.dto.place` gives, but for what other tracks tell of its frame.

    Args:
        scenes: first guesses, one per frame, as for ``place``. Each is asked for twice: they may be loaded lazily.
        depths: the frames' depth maps.
        ids: (K_f,) the track of each person of a frame; numbers from 0, each at most once in a frame.
        config: a preset of ``place``; default ``best``. tracks: what frames have in common.
        body: the people's body model, when it is already loaded.

    Raises:
        InputError: as ``place``; lists of different lengths, ids that do not fit, people of several body models, or
            the preset ``official``, whose solver has no tracks.
    """
    if not len(scenes) == len(depths) == len(ids):
        raise InputError(f"{len(scenes)} scenes, {len(depths)} depth maps and ids of {len(ids)} frames; give one each")
    config = config or DTOConfig()
    require_tracks(config)
    evidence, used = [], body
    for scene, depth in zip(scenes, depths, strict=True):
        if len(scene.people):
            used = used or body_of(scene.people)
        evidence.append(measure_frame(scene, depth, used or body_of(scene.people), config))
    solution = solve_tracks(evidence, ids, config, tracks)
    frames = [solution.place(f, scene, used or body_of(scene.people)) for f, scene in enumerate(scenes)]
    return PlacedTracks(frames, solution.tracks)


def solve_tracks(
    evidence: Sequence[FrameEvidence],
    ids: Sequence[Int[np.ndarray, " _"]],
    config: DTOConfig | None = None,
    tracks: TrackConfig | None = None,
) -> TrackSolution:
    """The heart of :func:`place_tracks`, from the evidence of each frame (:func:`measure_frame`), without meshes."""
    config, tracks = config or DTOConfig(), tracks or TrackConfig()
    require_tracks(config)
    _check_ids(evidence, ids)
    seen = sightings(ids)
    if len(seen.ids) == 0:
        answer, person = _nobody(evidence), None
    else:
        person = pool_evidence(evidence, seen)
        prior, density = expected_statures(person, config)
        if config.solver == "affine":
            answer = solve_affine(evidence, seen, prior, tracks.frame_error, config)
        else:
            answer = solve_fused_tracks(evidence, seen, prior, density, tracks.shared_error, tracks.rounds, config)
            answer = _hold_known(answer, person)
    return TrackSolution(config, tracks, evidence, seen, person, answer, _summary(answer, evidence, seen))


def _hold_known(answer: TrackAnswer, person: People) -> TrackAnswer:
    """Tracks of known stature have it, as in a single image (``known.py``)."""
    if person.known_stature_m is None:
        return answer
    held = answer.pooled & np.isfinite(person.known_stature_m)
    return replace(
        answer,
        stature_m=np.where(held, person.known_stature_m, answer.stature_m),
        stature_std_m=np.where(held, KNOWN_STATURE_STD_M, answer.stature_std_m),
    )


def _nobody(evidence: Sequence[FrameEvidence]) -> TrackAnswer:
    none = np.zeros(0)
    solutions = [unsolved(frame.cues.status, frame.people.stature_m, UNBOUNDED) for frame in evidence]
    prior = StaturePrior(none, none, np.zeros(0, np.int64))
    return TrackAnswer(none.astype(bool), none, none, solutions, prior, none.astype(bool), none)


def _summary(answer: TrackAnswer, evidence: Sequence[FrameEvidence], seen: Sightings) -> Tracks:
    """The tracks, with the stature of the one frame that has evidence where it is one."""
    stature, std = answer.stature_m.copy(), answer.stature_std_m.copy()
    first = seen.joined([frame.people.stature_m for frame in evidence], float)
    ratio = seen.joined([solution.depth_ratio for solution in answer.solutions], float)
    spread = seen.joined([solution.stature_std_m for solution in answer.solutions], float)
    status = seen.joined([solution.status for solution in answer.solutions], np.int64)
    count = seen.count(answer.evident)
    only = answer.evident & (count[seen.track] == 1) & (status == PersonStatus.PLACED)
    stature[seen.track[only]], std[seen.track[only]] = (first * ratio)[only], spread[only]
    everywhere = np.ones(len(seen.track), bool)
    return Tracks(seen.ids, seen.count(everywhere), count, stature, std, answer.notes)


def require_tracks(config: DTOConfig) -> None:
    """InputError where the preset's solver has no tracks."""
    if config.solver == "released":
        raise InputError(
            f"preset {config.preset!r} solves every image by itself and has no tracks; use 'best' or 'paper' for videos"
        )


def _check_ids(evidence: Sequence[FrameEvidence], ids: Sequence[np.ndarray]) -> None:
    if len(evidence) != len(ids):
        raise InputError(f"ids of {len(ids)} frames for {len(evidence)} frames; give one array each")
    bodies = {frame.people.body for frame in evidence if len(frame)}
    if len(bodies) > 1:
        raise InputError(f"a video needs one body model for all frames, got {', '.join(sorted(bodies))}")
    for number, (frame, track) in enumerate(zip(evidence, ids, strict=True)):
        track = np.asarray(track)
        if track.shape != (len(frame),) or (len(track) and track.dtype.kind not in "iu"):
            raise InputError(
                f"frame {number} has {len(frame)} people, but ids of {track.dtype} {track.shape}; give one integer each"
            )
        if len(track) and (track.min() < 0 or len(np.unique(track)) < len(track)):
            raise InputError(f"frame {number} must have ids from 0, each at most once, got {track.tolist()}")
