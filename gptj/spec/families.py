"""Models of other families that people take for a GPT-J: how to tell them, and what to say."""

import re
from collections.abc import Iterable, Mapping
from typing import Any, Final

from gptj.errors import ConfigError, brief

MODEL_TYPE: Final = "gptj"

_ELSEWHERE: Final = "Load it with transformers."

FAMILIES: Final = {
    "codegen": "CodeGen looks like GPT-J, but keeps query, key and value in one matrix, split in "
    f"four parts, and its head differs: it is not supported. {_ELSEWHERE}",
    "gpt2": "GPT-2 has learned positions and two layer norms per block: it is not a GPT-J. "
    f"{_ELSEWHERE}",
    "gpt_neo": "GPT-Neo has learned positions, local attention and two layer norms per block: it "
    f"is not a GPT-J, in spite of its name. {_ELSEWHERE}",
    "gpt_neox": "GPT-NeoX (also Pythia and Dolly 2) keeps query, key and value in one matrix, "
    f"rotates halves instead of pairs and has two layer norms: it is not a GPT-J. {_ELSEWHERE}",
    "llama": "Llama (also Mistral, Qwen and their kin) has RMS norms and a gated MLP: it is not a "
    f"GPT-J. {_ELSEWHERE}",
    "opt": f"OPT has learned positions: it is not a GPT-J. {_ELSEWHERE}",
    "bloom": f"BLOOM has ALiBi instead of rotary positions: it is not a GPT-J. {_ELSEWHERE}",
    "falcon": f"Falcon shares keys and values between heads: it is not a GPT-J. {_ELSEWHERE}",
    "mpt": f"MPT has ALiBi instead of rotary positions: it is not a GPT-J. {_ELSEWHERE}",
    "bert": f"BERT and its kin see their text both ways: they are no GPT-J. {_ELSEWHERE}",
    "t5": f"T5 has an encoder and a decoder: it is not a GPT-J. {_ELSEWHERE}",
}
"""Model type of a configuration -> what to say of it."""

_MARKS: Final = (
    ("codegen", r"h\.\d+\.attn\.qkv_proj\."),
    ("gpt_neo", r"h\.\d+\.attn\.attention\."),
    ("gpt2", r"h\.\d+\.attn\.c_attn\.|(^|\.)wpe\.weight$"),
    (
        "gpt_neox",
        r"(gpt_neox\.|^)layers\.\d+\.attention\.(query_key_value|rotary_emb|bias)|embed_in",
    ),
    ("bloom", r"h\.\d+\.self_attention\.query_key_value\.|word_embeddings_layernorm"),
    ("mpt", r"blocks\.\d+\.attn\.Wqkv\."),
    ("opt", r"decoder\.layers\.\d+\.self_attn\.|decoder\.embed_positions"),
    ("llama", r"layers\.\d+\.self_attn\.(q|qkv|o)_proj\.|layers\.\d+\.mlp\.gate_proj\."),
    ("bert", r"encoder\.layer\.\d+\.attention\."),
    ("t5", r"(encoder|decoder)\.block\.\d+\.layer\."),
)
"""Family -> names of tensors that only it has; the first that is found counts."""

_CLASS: Final = re.compile(r"(?:TF|Flax)?(CodeGen|GPT2|GPTNeoX|GPTNeo|Llama|OPT|Bloom|Falcon|MPT)")

_OF_CLASS: Final = {"gptneox": "gpt_neox", "gptneo": "gpt_neo"}


def family_of(names: Iterable[str]) -> str | None:
    """Return what to say of a checkpoint whose tensors have these names; None for a GPT-J."""
    listed = "\n".join(names)
    for family, pattern in _MARKS:
        if re.search(pattern, listed, re.MULTILINE):
            return FAMILIES[family]
    return None


def family_of_class(architectures: object) -> str | None:
    """Return what to say of the first of a configuration's `architectures`; None if unknown."""
    for name in architectures if isinstance(architectures, list) else ():
        found = _CLASS.match(name) if isinstance(name, str) else None
        if found:
            family = found[1].lower()
            return FAMILIES[_OF_CLASS.get(family, family)]
    return None


def check_family(content: Mapping[str, Any]) -> None:
    """Refuse a configuration of another architecture.

    Raises:
        ConfigError: saying what it is, if that is known.
    """
    found = content.get("model_type")
    if found == MODEL_TYPE:
        return
    about = FAMILIES.get(found) if isinstance(found, str) else None
    if found is None or found == "":
        about = family_of_class(content.get("architectures"))
        if about is None:
            return
    raise ConfigError(
        f"The configuration describes a model of type {brief(found)}; gptj reads {MODEL_TYPE!r} "
        f"only. {about or ''}".rstrip()
    )
