"""One of several processes that train the stand-in together; started by tests with RANK and WORLD_SIZE set."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch
from training_stand_ins import StandIn, make_config, make_loader, real_run

from crowdmesh.training.loop import Hooks, train
from crowdmesh.training.processes import process_of_environment
from crowdmesh.training.validation import Validation


def main(out: Path, options: dict) -> None:
    torch.set_num_threads(1)
    process = process_of_environment()
    seen: list[int] = []
    hooks = Hooks(validate=lambda _: Validation(1.0), report=lambda report: seen.append(report.step))
    if options.pop("real", False):
        config, module, loader = real_run(process=process, **options)
    else:
        config = make_config(**options)
        module = StandIn(seed=process[0])  # other first weights in each process: those of the first one count
        loader = make_loader(config, process)
    result = train(config, module, loader, out, hooks)
    torch.save(module.model.state_dict(), out / f"weights{process[0]}.pt")
    (out / f"seen{process[0]}.json").write_text(json.dumps([seen, result.step]))
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]), json.loads(sys.argv[2]))
