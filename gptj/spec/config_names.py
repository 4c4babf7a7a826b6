"""Names of configuration fields: aliases, fields without effect, and other models' names."""

from collections.abc import Collection
from typing import Final

from gptj.errors import ConfigError, suggest

ALIASES: Final = {
    "max_position_embeddings": "n_positions",
    "hidden_size": "n_embd",
    "num_attention_heads": "n_head",
    "num_hidden_layers": "n_layer",
    "torch_dtype": "dtype",
}
"""Other names users have for a field: as an argument, as an attribute and in a file."""

INERT: Final = frozenset(
    (
        "rotary scale_attn_weights gradient_checkpointing n_ctx tokenizer_class name_or_path "
        "transformers_version summary_activation summary_first_dropout summary_proj_to_labels "
        "summary_type summary_use_proj torchscript tf_legacy_loss is_decoder is_encoder_decoder "
        "add_cross_attention pruned_heads chunk_size_feed_forward "
        "max_length min_length do_sample num_beams temperature top_k top_p"
    ).split()
)
"""Published fields without effect on the model: accepted, kept in `extra` and written back."""

MISTAKEN: Final = {
    "intermediate_size": "n_inner",
    "hidden_act": "activation_function",
    "hidden_dropout_prob": "resid_pdrop",
    "attention_probs_dropout_prob": "attn_pdrop",
}
"""Field of other models that people pass to GPT-J -> the field of GPT-J with that meaning."""


def refuse_unknown(names: Collection[str], known: Collection[str]) -> None:
    """Refuse arguments that no field has.

    Raises:
        ConfigError: naming all of them, with GPT-J's name or the nearest one.
    """
    unknown = [name for name in names if name not in known and name != "extra"]
    if unknown:
        hints = [
            f"{name!r}: GPT-J calls it {MISTAKEN[name]!r}."
            if name in MISTAKEN
            else f"{name!r}.{suggest(name, sorted(known))}"
            for name in unknown
        ]
        raise ConfigError("GPTJConfig has no field " + " Nor ".join(hints))
