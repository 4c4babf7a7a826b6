"""Keyword arguments for loading a tokenizer, typed for type checkers."""

from gptj.hub.options import HubOptions


class TokenizerFiles(HubOptions, total=False):
    """Where a tokenizer is, and what old code passes beside that, without effect."""

    use_fast: bool
    trust_remote_code: bool


class TokenizerOptions(TokenizerFiles, total=False):
    """What ``GPTJTokenizer.from_pretrained`` takes besides a name."""

    padding_side: str | None
    truncation_side: str | None
    model_max_length: int | None
    pad_token: str | None
