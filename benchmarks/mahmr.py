"""MA-HMR against the release's way of computing it, and against its arithmetic: ``python benchmarks/mahmr.py``.

Prints a Markdown table. Every case has a given scale map, so that the number of tokens is fixed; weights are random in
the released layout; plain reference (``plain_mahmr.py``) and package take turns within one run, so that a machine whose
speed drifts is as fast for the one as for the other. The floor is the number of multiply-adds divided by the rate of
matrix products of the network's shapes, measured between the same calls. With one thread the clock is CPU time, which
other programs on the machine disturb least; with more it is wall time.
"""

from __future__ import annotations

import argparse
import os
import sys

_arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
_arguments.add_argument("--threads", type=int, default=1, help="of torch")
_arguments.add_argument("--cases", nargs="*", default=["672", "1288", "crowd"], help="672, 1288, crowd")
_arguments.add_argument("--repeats", type=int, default=5, help="calls per case after one warm-up")
_arguments.add_argument("--profile", action="store_true", help="where the package's time goes, instead of the table")
_arguments.add_argument("--compile", action="store_true", help="let torch compile the package's blocks and decoder")
ARGUMENTS = _arguments.parse_args() if __name__ == "__main__" else _arguments.parse_args([])
for _variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[_variable] = str(ARGUMENTS.threads)

import platform
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import plain_mahmr
import torch
import torch.nn.functional as F
from torch import Tensor

from crowdmesh.body import SMPL
from crowdmesh.mahmr import MAHMR, MAHMRConfig
from crowdmesh.mahmr import encoder as encoder_module
from crowdmesh.mahmr.projection import project

sys.path.append(str(Path(__file__).parents[1] / "tests"))
import synthetic_smpl  # a body of made-up numbers: SMPL's files are licensed
from released_weights import official_shapes

torch.set_num_threads(ARGUMENTS.threads)
clock = time.process_time if ARGUMENTS.threads == 1 else time.perf_counter

WIDTH, QUERIES, LAYERS, VERTICES = 768, 50, 6, 6890
LINEAR_SHAPES = ((768, 2304), (768, 768), (768, 3072), (3072, 768))
_NOT_THE_NETWORK = ("human_model", "decoder.decoder.bbox_embed", "cam_intrinsics", "z_order_map", "y_coord", "x_coord")


@dataclass(frozen=True)
class Case:
    """An image and what its scale map says.

    Attributes:
        padded: (H, W) of the input, pixels.
        size: (h, w) before padding.
        small, large: shares of the groups of four cells that small and large people cover.
        people: queries that the last layer is confident of.
    """

    title: str
    padded: tuple[int, int]
    size: tuple[int, int]
    small: float
    large: float
    people: int

    @property
    def input_size(self) -> int:
        """Side of the square canvas."""
        return max(self.padded)

    @property
    def groups(self) -> int:
        """Groups of four level 1 cells."""
        return self.padded[0] * self.padded[1] // 56**2

    def tokens(self) -> tuple[int, int, int]:
        """Tokens of level 0, 1 and 2 that go on together."""
        small, covered = round(self.small * self.groups), round((self.small + self.large) * self.groups)
        return 16 * small, 4 * (covered - small), self.groups - covered

    def image(self) -> Tensor:
        """Noise of the mean and spread of a normalised photograph (3, H, W)."""
        return torch.randn(3, *self.padded, generator=torch.Generator().manual_seed(1))

    def scale_map(self) -> Tensor:
        """The given map (cells, 2), in the order of the level 1 tokens."""
        fine, coarse, _ = self.tokens()
        groups = torch.zeros(self.groups, 2)
        groups[: fine // 16] = torch.tensor((1.0, 0.25))
        groups[fine // 16 : fine // 16 + coarse // 4] = torch.tensor((1.0, 0.75))
        order = torch.randperm(self.groups, generator=torch.Generator().manual_seed(2))
        return groups[order].repeat_interleave(4, 0)


CASES = {
    "672": Case("672×672", (672, 672), (672, 672), 0.1, 0.1, 6),
    "1288": Case("1288×728", (728, 1288), (724, 1288), 0.1, 0.1, 6),
    "crowd": Case("1288×728, crowd", (728, 1288), (724, 1288), 0.4, 0.3, 30),
}


def random_weights(config: MAHMRConfig) -> plain_mahmr.Weights:
    """A state dict in the released layout: seeded noise, scales of norms and layers around 1, upright mean person."""
    generator = torch.Generator().manual_seed(0)
    weights = {}
    for name, shape in official_shapes(config).items():
        if not name.startswith(_NOT_THE_NETWORK):
            scale = name.endswith(("norm.weight", "norm1.weight", "norm2.weight", "norm3.weight", ".gamma"))
            weights[name] = scale + 0.02 * torch.randn(shape, generator=generator)
    weights["refpoint_embed.weight"] *= 50
    weights["fov_head.layers.3.bias"] += 1.0
    weights["mean_pose"] += torch.tensor((1.0, 0, 0, 1, 0, 0)).repeat(24)
    return weights


def multiply_adds(case: Case) -> dict[str, float]:
    """Multiply-adds of the network as published, by part: linear layers, attention, the bodies of all queries."""
    square, cells, (fine, coarse, pooled) = WIDTH**2, 4 * case.groups, case.tokens()
    tokens, patch = fine + coarse + pooled, 3 * 14 * 14 * WIDTH

    def block(rows: int) -> float:
        return 12 * square * rows + 2 * WIDTH * rows**2  # qkv 3, out 1, MLP 4 + 4; scores and sums over values

    attention = QUERIES * QUERIES * 2 * WIDTH
    per_layer = QUERIES * (6 + 3) * square + attention  # projections among queries; of queries to the memory
    per_layer += QUERIES * (2 + 1 + 2 + 1 + 2) * square  # position, scale, size and box heads
    per_layer += QUERIES * 2 * WIDTH * 2048
    return {
        "level 1": cells * patch + 3 * block(cells + 1),
        "scale map": cells * (3 * square + 2 * WIDTH),
        "level 0": fine * patch + 3 * block(fine + 1),
        "late blocks": 9 * block(tokens + 1),
        "decoder, tokens": tokens * square + LAYERS * (3 * square * tokens + QUERIES * tokens * 3 * WIDTH),
        "decoder, queries": LAYERS * per_layer,
        "heads": LAYERS * QUERIES * (9 * square + WIDTH * (144 + 11)) + QUERIES * (WIDTH + 384 + 5) * 384 + 3 * square,
        "bodies": QUERIES * VERTICES * (3 * (11 + 207) + 12 * 24 + 12),  # directions, transforms, their use
    }


def multiply_adds_needed(case: Case) -> dict[str, float]:
    """Fewer multiply-adds with the same results, as the package does it.

    In the decoder, queries meet unprojected tokens: their four heads pass through the key and value matrices in the
    tokens' stead, which costs scores and sums over 768 channels a head instead of 192 or 384.
    """
    terms, tokens = multiply_adds(case), sum(case.tokens())
    through = 3 * QUERIES * WIDTH**2
    terms["decoder, tokens"] = tokens * WIDTH**2 + LAYERS * (through + 3 * 4 * QUERIES * tokens * WIDTH)
    return terms


class MatrixRate:
    """Rate of the network's matrix products over this many rows, measured call by call."""

    def __init__(self, rows: int) -> None:
        self.layers = [(torch.randn(rows, i), torch.randn(o, i), torch.randn(o)) for i, o in LINEAR_SHAPES]
        self.multiply_adds = rows * sum(i * o for i, o in LINEAR_SHAPES)
        self.seconds: list[float] = []

    def measure(self, repeats: int = 5) -> None:
        """A few more timings."""
        for _ in range(repeats):
            start = clock()
            for layer in self.layers:
                F.linear(*layer)
            self.seconds.append(clock() - start)

    def floor(self, multiply_adds: float) -> float:
        """Seconds that this many multiply-adds take at the median rate."""
        return multiply_adds / self.multiply_adds * float(np.median(self.seconds))

    @property
    def gflops(self) -> float:
        """Median rate, two operations a multiply-add."""
        return 2e-9 * self.multiply_adds / float(np.median(self.seconds))


def made_up_body() -> SMPL:
    """SMPL's shape and size in made-up numbers."""
    with tempfile.TemporaryDirectory() as folder:
        path = synthetic_smpl.write(Path(folder))
        return SMPL(path, path.parent / "smpl_kid_template.npy")


class Contest:
    """One case with the same weights in the plain reference and in the package."""

    def __init__(self, case: Case, body: SMPL) -> None:
        self.case, self.body = case, body
        config = MAHMRConfig.official(input_size=case.input_size)
        released = random_weights(config)
        self.weights = plain_mahmr.prepared(released)
        self.images, self.scale_map = [case.image()], case.scale_map()
        logits = torch.logit(self.plain().confidences).flatten().sort(descending=True).values
        threshold = torch.logit(torch.tensor(plain_mahmr.PERSON))
        released["conf_head.bias"] += threshold - logits[case.people - 1 : case.people + 1].mean()  # in place: of both
        self.model = MAHMR(config, body).eval()
        self.model.load_official(released)
        if ARGUMENTS.compile:
            self.model.compile_parts()

    def plain(self) -> plain_mahmr.PlainOutput:
        """The reference: everything about all queries."""
        size, canvas = self.case.size, self.case.input_size
        return plain_mahmr.forward(self.weights, self.images, [size], self.body, canvas, self.scale_map)

    @torch.inference_mode()
    def whole(self) -> dict[str, Tensor]:
        """The package: everything about all queries."""
        output = self.model(self.images, torch.tensor([self.case.size]), self.scale_map)
        return {name: getattr(output, name) for name in COMPARED}

    @torch.inference_mode()
    def people(self) -> dict[str, Tensor]:
        """The package as :meth:`MAHMR.infer` uses it: people above the threshold alone."""
        model, size = self.model, torch.tensor([self.case.size]).float()
        encoded = model.encoder(self.images, self.scale_map)
        decoded = model.decode(encoded)
        confidence = model.confidences(decoded.hidden[-1])[0]
        chosen = (confidence > plain_mahmr.PERSON).nonzero()[:, 0]
        _, focal = model.field_of_view(encoded.camera, size)
        hidden = decoded.hidden[:, 0, chosen]
        posed_joints, betas = model.people(hidden)
        rotations = model.all_joints(posed_joints)
        translations = model.translations(hidden[-1:], focal)[0]
        posed = model.body(model.body_shapes(betas), rotations, translations)
        joints = model.body.keypoints(posed, model.config.keypoint_layout)
        return {
            "betas": betas, "translations": translations, "vertices": posed.vertices, "joints_3d": joints,
            "joints_2d": project(joints[None], focal, size)[0], "chosen": chosen,
        }  # fmt: skip

    def differences(self) -> tuple[float, float]:
        """Greatest difference of any output of both ways of the package to the reference: pixels, all else."""
        plain, whole, people = self.plain(), self.whole(), self.people()
        chosen = people.pop("chosen")
        assert chosen.tolist() == (plain.confidences.flatten() > plain_mahmr.PERSON).nonzero()[:, 0].tolist()
        assert len(chosen) == self.case.people and plain.token_lengths == [sum(self.case.tokens())]
        pixels, others = [0.0], [0.0]
        for name in COMPARED:
            reference = getattr(plain, name)
            assert reference.isfinite().all(), name
            pairs = [(whole[name].reshape(reference.shape), reference)]
            if name in people:
                pairs.append((people[name], reference[0, chosen]))
            into = pixels if name in ("joints_2d", "focal_px") else others
            into += [(a - b).abs().max().item() for a, b in pairs]
        return max(pixels), max(others)


COMPARED = (
    "poses", "betas", "boxes", "confidences", "translations", "vertical_fov", "focal_px", "joints_3d", "joints_2d",
    "vertices", "scale_map", "hidden_states",
)  # fmt: skip


def seconds(call: Callable[[], object]) -> float:
    """Seconds of one call."""
    start = clock()
    call()
    return clock() - start


def spread(times: list[float]) -> str:
    """Median and range, seconds."""
    return f"{np.median(times):.2f} ({min(times):.2f} – {max(times):.2f})"


def row(case: Case, body: SMPL) -> str:
    """One case, timed: a row of the table."""
    contest, rate = Contest(case, body), MatrixRate(sum(case.tokens()) + 1)
    pixels, others = contest.differences()  # also the warm-up
    calls = (contest.plain, contest.whole, contest.people)
    times: list[list[float]] = [[], [], []]
    for _ in range(ARGUMENTS.repeats):
        for call, taken in zip(calls, times, strict=True):
            rate.measure()
            taken.append(seconds(call))
    plain, whole, people = (float(np.median(taken)) for taken in times)
    published, needed = sum(multiply_adds(case).values()), sum(multiply_adds_needed(case).values())
    alone = needed - sum(multiply_adds(case)[part] for part in ("heads", "bodies")) * (1 - case.people / QUERIES)
    floors = [rate.floor(count) for count in (published, needed, alone)]
    fine, coarse, pooled = case.tokens()
    cells = (
        f"{case.title}: {fine + coarse + pooled} tokens ({fine}, {coarse}, {pooled}), {case.people} people",
        *(spread(taken) for taken in times),
        f"{plain / whole:.2f}, {plain / people:.2f}",
        f"{rate.gflops:.0f}",
        " / ".join(f"{count / 1e9:.1f}" for count in (published, needed, alone)),
        " / ".join(f"{floor:.2f}" for floor in floors),
        " / ".join(f"{time / floor:.2f}" for time, floor in zip((plain, whole, people), floors, strict=True)),
        f"{others:.1e}, {pixels:.1e} px",
    )
    return "| " + " | ".join(cells) + " |"


HEADER = (
    "case", "plain reference, s", "package, all queries, s", "package, people, s", "times faster (all, people)",
    "GEMM, GFLOP/s", "multiply-adds, G (plain / all / people)", "their floors, s",
    "time over floor (plain / all / people)", "greatest difference",
)  # fmt: skip


def profile(case: Case, body: SMPL) -> str:
    """Seconds of the package by stage, median of the repeats."""
    contest = Contest(case, body)
    contest.people()
    runs = []
    for _ in range(ARGUMENTS.repeats):
        with watched(contest.model) as taken:
            total = seconds(contest.people)
        runs.append(stages(taken, total))
    lines = [f"{case.title}, {sum(case.tokens())} tokens, {case.people} people\n\n| stage | s | % |\n|---|---|---|"]
    whole = float(np.median([run["total"] for run in runs]))
    for stage in runs[0]:
        median = float(np.median([run[stage] for run in runs]))
        lines.append(f"| {stage} | {median:.3f} | {100 * median / whole:.1f} |")
    return "\n".join(lines) + "\n"


@contextmanager
def watched(model: MAHMR) -> Iterator[dict[str, float]]:
    """Timers around the parts of a network, as long as the context lasts: part to seconds."""
    encoder, taken = model.encoder, defaultdict[str, float](float)
    blocks = [*encoder.base_blocks, *encoder.blocks]
    linear = [layer for block in blocks for layer in (block.qkv, block.out, block.expand, block.contract)]
    parts = [
        ("encoder", encoder, "forward"), ("level 1", encoder, "see_roughly"), ("level 0", encoder, "see_closely"),
        ("scale map", encoder.map_head, "forward"), ("positions", encoder, "base_position"),
        ("canvas", encoder_module.Cells, "of"), ("attention", encoder_module, "ragged_attention"),
        ("memory", model, "decode"), ("decoder", model.decoder, "forward"), ("heads", model, "people"),
        ("bodies", model.body, "forward"),
        *(("to tokens", layer.cross_attention, "forward") for layer in model.decoder.layers),
        *(("blocks", block, "forward") for block in blocks),
        *(("linear", layer, "forward") for layer in linear),
    ]  # fmt: skip

    def timed(part: str, call: Callable[..., object]) -> Callable[..., object]:
        def measured(*arguments: object, **keywords: object) -> object:
            start = clock()
            result = call(*arguments, **keywords)
            taken[part] += clock() - start
            return result

        return measured

    before = [(owner, name, vars(owner).get(name)) for _, owner, name in parts]
    for part, owner, name in parts:
        setattr(owner, name, timed(part, getattr(owner, name)))
    try:
        yield taken
    finally:
        for owner, name, value in before:
            delattr(owner, name) if value is None else setattr(owner, name, value)


def stages(taken: dict[str, float], total: float) -> dict[str, float]:
    """Stages that add up to the total, then shares of them."""
    parts = {name: taken[name] for name in ("canvas", "level 1", "scale map", "level 0")}
    parts["late blocks, choice and order of tokens"] = taken["encoder"] - sum(parts.values())
    parts["memory and its positions"] = taken["memory"] - taken["decoder"]
    parts |= {name: taken[name] for name in ("decoder", "heads", "bodies")}
    parts["the rest"] = total - sum(parts.values())
    return parts | {
        "total": total,
        "of it: linear layers of blocks": taken["linear"],
        "of it: attention of blocks": taken["attention"],
        "of it: GELU, norms, sums of blocks": taken["blocks"] - taken["linear"] - taken["attention"],
        "of it: position embeddings of level 1": taken["positions"],
        "of it: attention of queries to tokens": taken["to tokens"],
    }


def main() -> None:
    """Print the table, or the profile."""
    body = made_up_body()
    cases = [CASES[name] for name in ARGUMENTS.cases]
    kind = "CPU" if ARGUMENTS.threads == 1 else "wall"
    print(
        f"{platform.processor() or platform.machine()}, torch {torch.__version__}, {ARGUMENTS.threads} thread(s), "
        f"{kind} seconds, median (range) of {ARGUMENTS.repeats} calls, load {os.getloadavg()[0]:.1f} before\n"
    )
    if not ARGUMENTS.profile:
        print("| " + " | ".join(HEADER) + " |\n" + "|---" * len(HEADER) + "|")
    for case in cases:
        print(profile(case, body) if ARGUMENTS.profile else row(case, body), flush=True)


if __name__ == "__main__":
    main()
