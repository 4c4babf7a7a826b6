"""The least that a workload costs: operations, and bytes that have to be read."""

from dataclasses import dataclass

from gptj.bench.workloads import Workload
from gptj.model.config import GPTJConfig
from gptj.spec.params import EMBEDDING, parameter_table
from gptj.spec.quantization import QUANTIZERS
from gptj.system.memory import BYTES

BACKWARD = 2
"""Matmuls of a backward pass for each matmul of the forward pass."""


@dataclass(frozen=True)
class Cost:
    """What a workload needs at least.

    Attributes:
        operations: additions and multiplications of floating-point numbers in matmuls.
        bytes: of parameters and cache, each read once.
    """

    operations: float
    bytes: float


def cost_of(workload: Workload, config: GPTJConfig, dtype: str) -> Cost:
    """Return the cost of the seconds that are measured.

    Attention counts whole, without the half that the causal mask leaves out. A training step counts
    matmuls alone: the optimizer's reading is small beside them.
    """
    # scales, and biases, are a few percent at most; with quantized weights the cache is bfloat16
    cached = BYTES.get(dtype, BYTES["bfloat16"])
    size = QUANTIZERS[dtype].bits / 8 if dtype in QUANTIZERS else cached
    weights = _read_parameters(config) * size
    if workload.kind == "decode":
        context = workload.prompt + (workload.new + 1) / 2  # on average
        return Cost(
            _operations(config, workload.batch, 1, context, workload.batch),
            weights + workload.batch * _cached(config, context) * cached,
        )
    batch, length = workload.batch, workload.prompt
    scored = batch if workload.kind == "first" else batch * length
    operations = _operations(config, batch, length, length, scored)
    if workload.kind == "train":
        return Cost(operations * (1 + BACKWARD), 0.0)
    return Cost(operations, weights)


def _operations(config: GPTJConfig, batch: int, length: int, context: float, scored: int) -> float:
    """Return the operations on so many sequences, `scored` tokens of which need logits."""
    table = parameter_table(config).values()
    blocks = sum(p.size for p in table if p.kind == "linear_weight" and ".h." in p.name)
    head = config.vocab_size * config.n_embd
    attention = 2 * config.n_layer * config.n_embd * context  # scores, and values
    return 2.0 * (batch * length * (blocks + attention) + scored * head)


def _read_parameters(config: GPTJConfig) -> int:
    """Return how many parameters one step reads.

    Of a word table that is not the head's, too, only a few rows are looked up.
    """
    left_out = () if config.tie_word_embeddings else (EMBEDDING,)
    table = parameter_table(config)
    return sum(parameter.size for name, parameter in table.items() if name not in left_out)


def _cached(config: GPTJConfig, context: float) -> float:
    """Return how many numbers the cache of one sequence holds."""
    return 2 * config.n_layer * config.n_embd * context
