"""A CameraHMR of one block and one layer, and checkpoints of it as trainers write them."""

from __future__ import annotations

import functools

import torch
from _hashed_weights import hashed_state

from crowdmesh.experts._hmr_head import HMRNetwork

SMALL = (1, 64, 1)
"""Blocks and width of the encoder, layers of the head."""


@functools.cache
def _small_state() -> dict[str, torch.Tensor]:
    with torch.device("meta"):
        network = HMRNetwork(*SMALL)
    return hashed_state(network)


def small_state() -> dict[str, torch.Tensor]:
    """The weights of a network of one encoder block and one head layer."""
    return dict(_small_state())


def lightning(state: dict, **more) -> dict:
    """A checkpoint as trainers write it, with what else there is in it."""
    surplus = {
        "cam_model.fc1.weight": torch.zeros(4, 2),
        "smpl.lbs_weights": torch.zeros(3, 2),
        "smpl_layer.faces": torch.zeros(5, 3, dtype=torch.int64),
        "smpl_head.deckp.bias": torch.zeros(88),
        "initialized": torch.tensor(False),
        "ema.decay": torch.zeros(1),
    }
    optimiser = {"state": {0: {"exp_avg": torch.zeros(2), "step": torch.tensor(1.0)}}, "param_groups": [{"lr": 1e-4}]}
    return {"epoch": 3, "optimizer_states": [optimiser], "state_dict": state | surplus, **more}


def build(*sizes: int) -> HMRNetwork:
    return HMRNetwork(*(sizes or SMALL))
