"""The criterion: queries are matched to people, and every term's errors are added up and divided by counts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from crowdmesh.body import BodyModel
from crowdmesh.body.keypoints import layout_names
from crowdmesh.errors import InputError
from crowdmesh.mahmr import MAHMRConfig
from crowdmesh.mahmr.model import all_joints, body_shapes
from crowdmesh.mahmr.projection import project
from crowdmesh.training import loss_terms, matcher
from crowdmesh.training.counts import TermCounts
from crowdmesh.training.loss_config import LossConfig
from crowdmesh.training.matched import PeopleRow, Predicted
from crowdmesh.training.output import NoisyLabels, Queries, TrainingOutput
from crowdmesh.training.targets import LEAST_DEPTH_M, Targets

__all__ = ["Criterion", "LossConfig", "Losses", "TermCounts"]

_PER_PERSON = {"box": "boxes", "giou": "boxes"}  # what a term is averaged over, where it is not its own name
_PAIRS = {"relative_metric": "pairs", "depth_layers": "layer_pairs"}


@dataclass(frozen=True, eq=False)
class Losses:
    """Losses of a batch, or of the part of one that counts were not taken from alone.

    Attributes:
        total: weighted sum, with gradient.
        terms: without weights and gradient; ``pose`` of the last layer, ``pose.0`` of the first one, ``dn.pose`` and
            ``dn.pose.0`` of denoising queries. Terms of weight 0 are not there.
    """

    total: Float[Tensor, ""]
    terms: dict[str, Float[Tensor, ""]]


class Criterion:
    """Losses of what a network says (see :class:`LossConfig` for the terms).

    Args:
        config: weights and averages.
        network: the network's configuration.
        body: its body model, on the same device.

    Raises:
        InputError: a configuration that does not suit the network or the body.
    """

    def __init__(self, config: LossConfig, network: MAHMRConfig, body: BodyModel) -> None:
        self.config, self.network, self.body = config, network, body
        self.shape_weights = config.shape_row(network.num_betas)
        points = {name: i for i, name in enumerate(body.joint_names)} | getattr(body, "points", {})
        names = layout_names(network.keypoint_layout, body.name, points)
        root = ("pelvis",) if "pelvis" in names else ("left_hip", "right_hip")
        if body.pelvis is None or not all(name in names for name in root):
            raise InputError(f"keypoint layout {network.keypoint_layout!r} of body {body.name!r} has no pelvis or hips")
        self.root = [names.index(name) for name in root]
        self.names = (*names, "pelvis")

    def counts(self, targets: Sequence[Targets]) -> TermCounts:
        """What there is to learn in these labels."""
        people = PeopleRow.of(targets)
        everybody = torch.stack([target.everybody for target in targets])
        per_image = torch.tensor([len(target) for target in targets], device=everybody.device)
        queries = torch.full_like(per_image, self.network.queries)
        entries = torch.where(everybody, queries, torch.minimum(per_image, queries)).sum()
        has_map, covered = _map_masks(targets)
        values = {
            "people": len(people),
            "boxes": people.has_box.sum(),
            "pose": people.has_pose.sum(),
            "shape": people.betas_mask.any(1).sum(),
            "joints_3d": self._rooted(people).any(1).sum(),
            "joints_2d": people.joints_2d_mask.any(1).sum(),
            "depth": people.has_depth.sum(),
            "pairs": len(self._metric_pairs(people)),
            "layer_pairs": len(self._layer_pairs(people)),
            "detections": entries if self.config.detection_average == "entries" else len(people),
            "negatives": (per_image * everybody).sum(),
            "cameras": torch.stack([target.has_camera for target in targets]).sum(),
            "cells": has_map.sum(),
            "covered_cells": covered.sum(),
        }
        numbers = [float(value) for value in values.values()]
        return TermCounts(torch.tensor(numbers, dtype=torch.float64, device=everybody.device))

    def __call__(self, output: TrainingOutput, targets: Sequence[Targets], counts: TermCounts | None = None) -> Losses:
        """Losses of these images; ``counts``: what sums are divided by, ``None``: what these images hold."""
        counts = self.counts(targets) if counts is None else counts
        people = PeopleRow.of(targets)
        with torch.autocast(output.focal_px.device.type, enabled=False):
            query, found = self.match(output, targets)
            predicted = self.gather(output, output.queries, people, query, found)
            terms = self.of_people(predicted, people, counts)
            detection = self._detection(output.queries, people, query, found, targets)
            terms["detection"] = detection / counts.divisor("detections")
            terms |= self.of_images(output, targets, counts)
            if output.denoising is not None:
                noisy = self._denoising(output, *output.denoising, people, targets, counts)
                terms |= {f"dn.{name}": value for name, value in noisy.items()}
        return self._weighted(terms, output)

    @torch.no_grad()
    def match(
        self, output: TrainingOutput, targets: Sequence[Targets]
    ) -> tuple[Int[Tensor, "L N"], Bool[Tensor, "L N"]]:
        """Query of each of the batch's people after each layer, and whether there was one left."""
        queries = output.queries
        layers = len(queries.boxes)
        points = self._joints(queries.rotations, queries.betas, queries.translations)[..., :-1, :]
        focal, sizes = output.focal_px, output.image_sizes
        joints = project(_in_front(points.transpose(0, 1)), focal, sizes)
        confidences = queries.confidence_logits.sigmoid()
        tables = [
            matcher.costs(
                confidences[:, i], queries.boxes[:, i], joints[i], target.boxes, target.has_box, target.joints_2d,
                target.joints_2d_mask, self.network.input_size, self.config,
            )
            for i, target in enumerate(targets)
        ]  # fmt: skip
        return matcher.assign(tables, layers, focal.device)

    def gather(
        self,
        output: TrainingOutput,
        queries: Queries,
        people: PeopleRow,
        query: Int[Tensor, "L N"],
        found: Bool[Tensor, "L N"],
    ) -> Predicted:
        """What the queries of these people say, their bodies posed."""
        layer = torch.arange(len(query), device=query.device)[:, None]
        at = (layer, people.image, query)
        rotations, betas, places = queries.rotations[at], queries.betas[at], queries.translations[at]
        points = self._joints(rotations, betas, places)
        joints, pelvis = points[..., :-1, :], points[..., -1, 2]
        focal, sizes = (each.index_select(0, people.image) for each in (output.focal_px, output.image_sizes))
        depth = places[..., 2] if self.config.depth_of == "translation" else pelvis
        true_focal = torch.where(people.focal_px.isnan(), focal.detach(), people.focal_px)  # no NaN on the way back
        grown = true_focal / focal
        return Predicted(
            found=found,
            boxes=queries.boxes[at],
            rotations=rotations,
            betas=betas,
            joints_3d=joints,
            joints_2d=project(_in_front(joints.transpose(0, 1)), focal, sizes).transpose(0, 1),
            depth_m=depth,
            depth_at_true_focal_m=depth + places[..., 2] * (grown - 1),
        )

    def of_people(self, predicted: Predicted, people: PeopleRow, counts: TermCounts) -> dict[str, Float[Tensor, " L"]]:
        """The terms of persons and of pairs, per layer, those with a weight."""
        weights = self.config.weights
        terms = {}
        for name, (valid, error) in self._person_errors(predicted, people, weights).items():
            kept = torch.where(valid & predicted.found, error, 0.0).sum(1)
            terms[name] = kept / counts.divisor(_PER_PERSON.get(name, name))
        depth = predicted.depth_m
        for name, divisor in _PAIRS.items():
            if name not in weights:
                continue
            if name == "relative_metric":
                pairs = self._metric_pairs(people)
                error = loss_terms.relative_metric_error(depth, people.depth_m, pairs)
            else:
                pairs = self._layer_pairs(people)
                error = loss_terms.layer_order_error(depth, people.depth_layers, pairs)
            both = predicted.found[:, pairs].all(-1)
            terms[name] = torch.where(both, error, 0.0).sum(1) / counts.divisor(divisor)
        return terms

    def of_images(
        self, output: TrainingOutput, targets: Sequence[Targets], counts: TermCounts
    ) -> dict[str, Float[Tensor, ""]]:
        """The terms of cameras and scale maps, those with a weight."""
        weights, terms = self.config.weights, {}
        if "fov" in weights and output.raw_fov is not None:
            known = torch.stack([target.has_camera for target in targets])
            true = torch.stack([target.vertical_fov for target in targets]).to(output.raw_fov)
            error = torch.where(known, loss_terms.fov_error(output.raw_fov.float(), true), 0.0).sum()
            terms["fov"] = error / counts.divisor("cameras") if self.config.fov_reduction == "mean" else error
        valid, covered = _map_masks(targets)
        given = output.scale_map.float()
        if "map" in weights:
            true = torch.cat([target.scale_map[:, 0] for target in targets]) > 0
            error = loss_terms.focal(output.map_logits[:, 0].float(), true)
            terms["map"] = torch.where(valid, error, 0.0).sum() / counts.divisor("cells")
        if "map_scale" in weights:
            size = torch.cat([target.scale_map[:, 1] for target in targets]).to(given)
            error = torch.where(covered, (given[:, 1] - size).abs(), 0.0).sum()
            terms["map_scale"] = error / counts.divisor("covered_cells")
        return terms

    def _person_errors(
        self, predicted: Predicted, people: PeopleRow, weights: dict[str, float]
    ) -> dict[str, tuple[Tensor, Tensor]]:
        """Who has which label, (N,), and the errors, (L, N)."""
        errors = {}
        if "pose" in weights:
            of = loss_terms.axis_angle_error if self.config.pose_error == "axis_angle" else loss_terms.rotation_error
            errors["pose"] = (people.has_pose, of(predicted.rotations, people.rotations))
        if "shape" in weights:
            row = predicted.betas.new_tensor(self.shape_weights) * people.betas_mask
            errors["shape"] = (people.betas_mask.any(1), loss_terms.shape_error(predicted.betas, people.betas, row))
        if "joints_3d" in weights:
            mask = self._rooted(people)
            given, true = (x - x[..., self.root, :].mean(-2, True) for x in (predicted.joints_3d, people.joints_3d))
            errors["joints_3d"] = (mask.any(1), loss_terms.joint_error(given, true, mask, over_all=False))
        if "joints_2d" in weights:
            mask = people.joints_2d_mask
            error = loss_terms.joint_error(
                predicted.joints_2d, people.joints_2d, mask, self.config.joints_2d_average == "all"
            )
            errors["joints_2d"] = (mask.any(1), error / self.network.input_size)
        if "box" in weights:
            errors["box"] = (people.has_box, (predicted.boxes - people.boxes).abs().sum(-1))
        if "giou" in weights:
            errors["giou"] = (people.has_box, 1 - loss_terms.generalised_iou(predicted.boxes, people.boxes))
        if "depth" in weights:
            depth = predicted.depth_at_true_focal_m.clamp(min=LEAST_DEPTH_M)
            errors["depth"] = (people.has_depth, loss_terms.inverse_depth_error(depth, people.depth_m))
        return errors

    def _rooted(self, people: PeopleRow) -> Bool[Tensor, "N P"]:
        """3D joints that can be compared relative to the pelvis: none without it."""
        mask = people.joints_3d_mask
        return mask & mask[:, self.root].all(1, keepdim=True)

    def _metric_pairs(self, people: PeopleRow) -> Int[Tensor, "M 2"]:
        """Pairs whose depths Eq. 5 compares."""
        pairs = loss_terms.pairs_of_images(people.scene, people.has_depth)
        apart = (people.depth_m[pairs[:, 1]] - people.depth_m[pairs[:, 0]]).abs()
        limit = self.config.pair_limit_m
        return pairs[apart < limit if self.config.pair_limit == "below" else apart <= limit]

    def _layer_pairs(self, people: PeopleRow) -> Int[Tensor, "M 2"]:
        return loss_terms.pairs_of_images(people.scene, people.depth_layers >= 0)

    def _detection(
        self,
        queries: Queries,
        people: PeopleRow,
        query: Int[Tensor, "L N"],
        found: Bool[Tensor, "L N"],
        targets: Sequence[Targets],
    ) -> Float[Tensor, " L"]:
        """Sum of the focal losses of queries that stand for somebody, or for nobody where all people are labelled."""
        logits = queries.confidence_logits
        positive = torch.zeros_like(logits, dtype=torch.bool)
        layer, person = found.nonzero(as_tuple=True)
        positive[layer, people.image[person], query[layer, person]] = True
        valid = positive | torch.stack([target.everybody for target in targets])[:, None]
        return torch.where(valid, loss_terms.focal(logits, positive), 0.0).sum((1, 2))

    def _denoising(
        self,
        output: TrainingOutput,
        queries: Queries,
        labels: NoisyLabels,
        people: PeopleRow,
        targets: Sequence[Targets],
        counts: TermCounts,
    ) -> dict[str, Float[Tensor, " L"]]:
        """The terms of denoising queries, whose people are known."""
        layers = len(queries.boxes)
        group = torch.arange(labels.groups, device=labels.image.device).repeat_interleave(len(people))
        again = people.repeated(labels.person, group * len(targets) + labels.image)
        query = labels.slot.expand(layers, -1)
        predicted = self.gather(output, queries, again, query, torch.ones_like(query, dtype=torch.bool))
        counted = TermCounts(counts.values * labels.groups)
        terms = self.of_people(predicted, again, counted)
        logits = queries.confidence_logits
        near, far = logits[:, labels.image, labels.slot], logits[:, labels.image, labels.negative_slot]
        whole = torch.stack([target.everybody for target in targets])[labels.image]
        yes, no = (loss_terms.focal(x, torch.full_like(x, flag, dtype=torch.bool)) for x, flag in ((near, 1), (far, 0)))
        total = yes.sum(1) + torch.where(whole, no, 0.0).sum(1)
        divisor = counted.divisor("people") + counted.values[counted.names.index("negatives")].float()
        terms["detection"] = total / divisor
        return terms

    def _joints(self, rotations: Tensor, betas: Tensor, translations: Tensor) -> Float[Tensor, "*n P 3"]:
        """Points of the keypoint layout, and then the pelvis, of bodies."""
        batch = translations.shape[:-1]
        turns = all_joints(rotations, self.network.posed_joints, self.body.joint_names)
        shapes = body_shapes(betas.flatten(0, -2), self.body)
        points = self.body.posed_keypoints(
            shapes, turns.flatten(0, len(batch) - 1), translations.flatten(0, -2), self.names
        )
        return points.unflatten(0, batch)

    def _weighted(self, terms: dict[str, Tensor], output: TrainingOutput) -> Losses:
        total = output.focal_px.sum() * 0.0
        named: dict[str, Tensor] = {}
        for name, value in terms.items():
            noisy, plain = name.startswith("dn."), name.removeprefix("dn.")
            weight = getattr(self.config, plain) * (
                self.config.denoising_detection if noisy and plain == "detection" else 1
            )
            if weight == 0:
                continue
            *earlier, last = value.unbind() if value.ndim else (value,)
            total = total + weight * (last + self.config.auxiliary * sum(earlier))
            named[name] = last.detach()
            named |= {f"{name}.{i}": each.detach() for i, each in enumerate(earlier)}
        return Losses(total, named)


def _map_masks(targets: Sequence[Targets]) -> tuple[Bool[Tensor, " n"], Bool[Tensor, " n"]]:
    """Cells whose cover can be learned, and those known to be covered, of all images."""
    covered = [(target.scale_map[:, 0] > 0) & target.has_map for target in targets]
    valid = [c | (target.has_map & target.everybody) for c, target in zip(covered, targets, strict=True)]
    return torch.cat(valid), torch.cat(covered)


def _in_front(points: Float[Tensor, "*n 3"]) -> Float[Tensor, "*n 3"]:
    """Points as if none were nearer: no loss of one wrong body explodes."""
    return torch.cat((points[..., :2], points[..., 2:].clamp(min=LEAST_DEPTH_M)), -1)
