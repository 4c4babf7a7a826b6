"""The four heads as ONNX operators, on top of the last states (B, T, E)."""

from collections.abc import Callable
from typing import Final

from gptj.backends.onnxruntime.blocks import linear
from gptj.backends.onnxruntime.interface import BATCH, CHOSEN, LENGTH, Values, floats
from gptj.backends.onnxruntime.nodes import Nodes
from gptj.spec.config import GPTJConfig
from gptj.spec.params import EMBEDDING, LM_HEAD


def base(nodes: Nodes, config: GPTJConfig, last: str, chosen: str | None) -> Values:
    """Return the last states."""
    nodes.add("Identity", last, name="last_hidden_state")
    return [floats("last_hidden_state", [BATCH, LENGTH, config.n_embd])]


def causal_lm(nodes: Nodes, config: GPTJConfig, last: str, chosen: str | None) -> Values:
    """Return the logits of the next token, (B, T, V), or (B, K, V) at the chosen positions."""
    nodes.scope = "lm_head."
    if chosen is not None:
        last = nodes.add("Gather", last, chosen, axis=1)
    if config.tie_word_embeddings:
        weight = nodes.add("Transpose", nodes.weight(EMBEDDING), perm=[1, 0])
    else:
        weight = nodes.weight(LM_HEAD)
    product = nodes.add("MatMul", last, weight)
    bias = nodes.weight("lm_head.bias")
    nodes.modules["lm_head"] = nodes.add("Add", product, bias, name="logits")
    return [floats("logits", [BATCH, CHOSEN if chosen else LENGTH, config.vocab_size])]


def sequence_classification(
    nodes: Nodes, config: GPTJConfig, last: str, chosen: str | None
) -> Values:
    """Return the logits (B, L) at the chosen token of each sequence."""
    assert chosen is not None
    nodes.scope = "score."
    index = nodes.add("Unsqueeze", chosen, nodes.integers(1))  # (B, 1)
    pooled = nodes.add("GatherND", last, index, batch_dims=1)  # (B, E)
    weight = nodes.weight("score.weight")
    nodes.modules["score"] = nodes.add("MatMul", pooled, weight, name="logits")
    return [floats("logits", [BATCH, config.num_labels])]


def question_answering(nodes: Nodes, config: GPTJConfig, last: str, chosen: str | None) -> Values:
    """Return the logits of an answer's start and end, (B, T) each."""
    nodes.scope = "qa_outputs."
    names = ("start_logits", "end_logits")
    parts = nodes.split(linear(nodes, last, "qa_outputs", has_bias=True), [1, 1])
    for part, name in zip(parts, names, strict=True):
        nodes.add("Squeeze", part, nodes.integers(-1), name=name)
    return [floats(name, [BATCH, LENGTH]) for name in names]


HEAD_OUTPUTS: Final[dict[str, Callable[[Nodes, GPTJConfig, str, str | None], Values]]] = {
    "base": base,
    "causal_lm": causal_lm,
    "sequence_classification": sequence_classification,
    "question_answering": question_answering,
}
"""Head -> what adds its operators and returns its outputs."""
