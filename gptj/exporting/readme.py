"""The page of an exported folder: what it is, and how to run it."""

from gptj.exporting.source import Source
from gptj.exporting.target import Target, install


def readme(target: Target, source: Source) -> str:
    """Return the page in Markdown."""
    config = source.config
    others = ["tokenizers"] if source.has_tokenizer else []
    kind = f", weights in {source.quantize}" if source.quantize else ""
    return f"""# {source.name}: {target.name}

A GPT-J model ({source.head}, {source.dtype}{kind}), exported by gptj for {target.summary}. It runs
without gptj. `parity.json` says how far its numbers are from a float64 reference model.

Its vocabulary has {config.vocab_size} tokens, its context {config.n_positions}. Longer inputs, and
ids outside the vocabulary, give numbers that mean nothing, or an error: check both before the call.

## Run

    {install([*target.runtime, *others])}

{target.usage(source).strip()}
"""
