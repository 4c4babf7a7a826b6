"""A backend that computes nothing."""

from types import SimpleNamespace

from gptj.backends.base import Capabilities


class Noting:
    """A backend whose models are the arguments that they were built with."""

    name = "noting"
    capabilities = Capabilities(
        heads=("base", "causal_lm", "sequence_classification"), dtypes=("float32", "bfloat16")
    )
    build_options = ("attn_implementation",)

    def build(self, config, head, *, params, dtype, device, **options):
        return SimpleNamespace(
            config=config, head=head, params=params, dtype=dtype, device=device, options=options
        )
