"""The options of prediction as keyword arguments, for type checkers."""

from gptj.model.options import AnyOptions
from gptj.tokenizer import GPTJTokenizer


class PredictOptions(AnyOptions, total=False):
    """What ``gptj.predict`` takes for either head, and for loading a model by its name."""

    tokenizer: GPTJTokenizer | None
    batch_size: int
    length: int | None
    backend: str | None
    head: str | None
