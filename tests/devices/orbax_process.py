"""Saves with Orbax, or restores: run by ``test_orbax`` with the devices that it names."""

import sys
from pathlib import Path

import jax
import numpy as np
import orbax.checkpoint as ocp

from meshes import build
from models import draw_ids

IDS = draw_ids((2, 7), seed=61)


def main(action, folder):
    """Save from all devices of this process, or read what others have saved and show logits."""
    mesh = jax.make_mesh((1, jax.device_count()), ("data", "model"))
    with ocp.StandardCheckpointer() as checkpointer:
        if action == "save":
            model = build(mesh)
            checkpointer.save(folder / "params", model.params)
        else:
            model = build(None)
            place = model.abstract_params(mesh)
            model.params = jax.tree.map(np.zeros_like, model.params)  # what follows is all read
            model.params = checkpointer.restore(folder / "params", place)
            spread = model.params["lm_head"]["kernel"].sharding.device_set
            assert len(spread) == jax.device_count()
        np.save(folder / f"{action}.npy", np.asarray(model(IDS).logits))


main(sys.argv[1], Path(sys.argv[2]))
