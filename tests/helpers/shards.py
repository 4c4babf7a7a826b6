"""A checkpoint that is saved in one file or in shards."""

from gptj.checkpoint.saving import save_checkpoint
from gptj.generation.options import GenerationConfig
from gptj.model.config import GPTJConfig
from gptj.spec.params import initial_value, parameter_table
from gptj.spec.tensors import LazyTensor

CONFIG = GPTJConfig(
    vocab_size=96, n_positions=64, n_embd=40, n_layer=2, n_head=4, rotary_dim=6, n_inner=112
)
ARRAYS = {name: initial_value(p, CONFIG) for name, p in parameter_table(CONFIG).items()}
INDEX = "model.safetensors.index.json"


def save(folder, size="5GB", arrays=ARRAYS):
    tensors = {name: LazyTensor.of(array) for name, array in arrays.items()}
    save_checkpoint(
        folder, CONFIG, GenerationConfig.from_model(CONFIG), tensors, max_shard_size=size
    )
    return folder
