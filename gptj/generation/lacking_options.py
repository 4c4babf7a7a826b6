"""Options of other libraries that decide what is written, and that gptj does not have."""

from collections.abc import Mapping
from typing import Any, Final

LACKING: Final = {
    "assistant_early_exit": (),
    "constraints": (),
    "dola_layers": (),
    "encoder_no_repeat_ngram_size": (0,),
    "encoder_repetition_penalty": (1,),
    "epsilon_cutoff": (0,),
    "eta_cutoff": (0,),
    "exponential_decay_length_penalty": (),
    "force_words_ids": (),
    "forced_bos_token_id": (),
    "forced_decoder_ids": (),
    "guidance_scale": (1,),
    "remove_invalid_values": (False,),
    "token_healing": (False,),
    "top_h": (),
    "watermarking_config": (),
}
"""Their names -> the values, besides null, that change nothing."""


def lacking(content: Mapping[str, Any]) -> list[str]:
    """Return the names of such options that have a value with an effect, in a file's content."""
    return [
        name
        for name, neutral in LACKING.items()
        if content.get(name) is not None and content[name] not in neutral
    ]


def lacking_note(content: Mapping[str, Any]) -> list[str]:
    """Say which options of a checkpoint have no effect, in a sentence; nothing if none is set."""
    names = lacking(content)
    if not names:
        return []
    verb = "is not an option" if len(names) == 1 else "are not options"
    return [
        f"The checkpoint's {', '.join(names)} {verb} of gptj: text is written without, and may be "
        "another than other programs write."
    ]
