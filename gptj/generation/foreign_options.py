"""Options of generate() in another library's object, which is read by the methods it has."""

from typing import Any, Final, Protocol

from gptj.errors import ArgumentError, choices
from gptj.generation.lacking_options import LACKING, lacking
from gptj.generation.options import GenerationConfig, option_names
from gptj.spec.config import GPTJConfig


class OptionSource(Protocol):
    """What options can be read from: ours, or another library's object of that kind."""

    def to_diff_dict(self) -> dict[str, Any]:
        """Return by name the options that are not default."""


HOW_ALONE: Final = frozenset(
    (
        "transformers_version cache_implementation cache_config max_cache_len compile_config "
        "disable_compile continuous_batching_config low_memory prefill_chunk_size is_assistant"
    ).split()
)
"""Options of other libraries that say how they compute, and not what: they have no effect here."""


def start_options(
    config: GPTJConfig, own: GenerationConfig | None, given: OptionSource | None
) -> tuple[GenerationConfig, dict[str, Any]]:
    """Return the options that a call starts from, and those that another library's object has set.

    A `GenerationConfig` of ours stands in place of the model's `own`; what another library's object
    sets stands above them, as there.

    Raises:
        ArgumentError: as `foreign_options`.
    """
    if given is None or isinstance(given, GenerationConfig):
        return GenerationConfig.from_model(config, own if given is None else given), {}
    foreign = foreign_options(given)
    return GenerationConfig.from_model(config, own).updated(**foreign), foreign


def as_options(given: OptionSource) -> GenerationConfig:
    """Return our options for ours or another library's.

    Raises:
        ArgumentError: as `foreign_options`.
    """
    if isinstance(given, GenerationConfig):
        return given
    return GenerationConfig(**foreign_options(given))


def foreign_options(given: OptionSource) -> dict[str, Any]:
    """Return the options that another library's object sets, by name.

    Raises:
        ArgumentError: for what is no such object, and for a set option that generate() lacks.
    """
    read = getattr(given, "to_diff_dict", None)
    if not callable(read):
        raise ArgumentError(
            "generation_config must be a gptj.GenerationConfig, or another library's object that "
            f"has to_diff_dict(); found {type(given).__name__}. A dict of options is passed as "
            "generate(**options)."
        )
    content = {name: value for name, value in read().items() if value is not None}
    known, without_effect = option_names(), HOW_ALONE | (LACKING.keys() - lacking(content))
    unknown = [n for n in content if n not in known and n not in without_effect and n[0] != "_"]
    if unknown:
        raise ArgumentError(
            f"The generation_config sets {choices(unknown)}, which generate() does not have: set "
            f"{'it' if len(unknown) == 1 else 'them'} to None there."
        )
    return {name: value for name, value in content.items() if name in known}
