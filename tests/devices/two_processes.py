"""Train a tiny model over the processes of torchrun; the first writes the losses as JSON.

    torchrun --nproc-per-node 2 tests/devices/two_processes.py MODE FOLDER

MODE is "alone", "fsdp", "tensor_parallel", or "save" and "resume", which go through FOLDER.
"""

import json
import os
import sys
from pathlib import Path

import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch.distributed.checkpoint.state_dict import get_state_dict, set_state_dict
from torch.distributed.device_mesh import init_device_mesh

from gptj.backends.torch.parallel import fsdp, tensor_parallel
from models import draw_ids, tiny_model

STEPS = 6
HALF = STEPS // 2


def batch(step):
    """Return the whole batch of a step, (4, 10)."""
    return torch.tensor(draw_ids((4, 10), seed=step))


def train(model, optimizer, steps, rank, world):
    """Return the losses of some steps, each the mean over all processes."""
    losses = []
    for step in steps:
        ids = batch(step).chunk(world)[rank]
        loss = model(ids, labels=ids).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        mean = loss.detach().clone()
        if world > 1:
            dist.all_reduce(mean)
            mean /= world
        losses.append(mean.item())
    return losses


def main(mode, folder):
    rank, world = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    dist.init_process_group("gloo")
    mesh = init_device_mesh("cpu", (world,))
    model = tiny_model("torch").train()
    data = (rank, world)
    if mode == "tensor_parallel":
        tensor_parallel(model, mesh)
        data = (0, 1)  # all processes see all of the batch
    elif mode != "alone":
        fsdp(model, mesh)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2, foreach=False)
    steps = {"save": range(HALF), "resume": range(HALF, STEPS)}.get(mode, range(STEPS))
    if mode == "resume":
        restore(model, optimizer, folder / "state")
    losses = train(model, optimizer, steps, *data)
    if mode == "save":
        weights, state = get_state_dict(model, optimizer)
        dcp.save({"model": weights, "optimizer": state}, checkpoint_id=folder / "state")
    if rank == 0:
        (folder / f"{mode}.json").write_text(json.dumps(losses))
    dist.destroy_process_group()
    os._exit(0)  # PyTorch's threads may outlive the interpreter, which would then abort


def restore(model, optimizer, folder):
    """Read a state that any number of processes has written."""
    weights, state = get_state_dict(model, optimizer)
    content = {"model": weights, "optimizer": state}
    dcp.load(content, checkpoint_id=folder)
    set_state_dict(
        model,
        optimizer,
        model_state_dict=content["model"],
        optim_state_dict=content["optimizer"],
    )


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
