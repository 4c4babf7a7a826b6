"""Make the tiny checkpoint of the parity tests: ``python weights/tiny/make.py``.

No two sizes are equal, so a wrong axis raises an error, and every tensor is drawn far from its
usual initial value, with which a wrong model could pass.
"""

from pathlib import Path

import numpy as np

from gptj.checkpoint.saving import save_checkpoint
from gptj.generation.options import GenerationConfig
from gptj.model.config import GPTJConfig
from gptj.spec.params import Parameter, parameter_table
from gptj.spec.tensors import LazyTensor

CONFIG = GPTJConfig(
    vocab_size=96,
    n_positions=64,
    n_embd=40,
    n_layer=2,
    n_head=4,
    rotary_dim=6,
    n_inner=112,
    bos_token_id=95,
    eos_token_id=95,
    dtype="float32",
)
SEED = 20_210_609
DEVIATION = 0.3


def draw(parameter: Parameter, generator: np.random.Generator) -> LazyTensor:
    """Draw N(0, 0.3), and 1 + N(0, 0.3) for the weights of norms."""
    values = generator.standard_normal(parameter.shape) * DEVIATION
    if parameter.kind == "norm_weight":
        values += 1.0
    return LazyTensor.of(values.astype(np.float32))


def main() -> None:
    """Write the checkpoint beside this file."""
    generator = np.random.Generator(np.random.PCG64(SEED))
    table = parameter_table(CONFIG, "causal_lm")
    tensors = {name: draw(parameter, generator) for name, parameter in table.items()}
    CONFIG.architectures = ["GPTJForCausalLM"]
    options = GenerationConfig.from_model(CONFIG)
    save_checkpoint(Path(__file__).parent, CONFIG, options, tensors)


if __name__ == "__main__":
    main()
