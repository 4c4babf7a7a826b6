"""What the tensors of a file say of a configuration: they decide where a ``config.json`` differs.

Sizes follow from shapes, except for the heads and what is rotated, of which only old buffers tell.
A size counts where all tensors that show it agree; where they do not, the shapes are compared one
by one later, and all of them named.
"""

import re
from collections.abc import Mapping
from typing import Any, Final

import numpy as np

from gptj.checkpoint.causal_masks import LEGACY_BUFFERS
from gptj.errors import CheckpointError
from gptj.spec import ROTARY_BASE
from gptj.spec.config import LABEL_FIELDS, GPTJConfig
from gptj.spec.config_checks import misleading_keys
from gptj.spec.config_content import plain_content
from gptj.spec.config_names import ALIASES
from gptj.spec.families import family_of
from gptj.spec.heads import BASE_PREFIX, find_head
from gptj.spec.params import EMBEDDING, LM_HEAD
from gptj.spec.tensors import LazyTensor, Tensors
from gptj.spec.vocabulary import EOS_TOKEN_ID, VOCAB_SIZE

TABLE_BYTES: Final = 2**28
"""A rotary table up to this size needs no weights of that size beside it."""

HEAD_WIDTH: Final = GPTJConfig().head_dim
ROTARY_DIM: Final = GPTJConfig().rotated_dim
"""What is assumed where nothing shows it: the 6B's."""

_LAYER: Final = re.compile(r"h\.(\d{1,9})\..*\.(?:weight|bias)$")
_FREQUENCIES: Final = re.compile(r"(^|\.)rotary_emb\.inv_freq$")
_POSITIONS: Final = re.compile(r"(^|\.)embed_positions$")


def refuse_family(tensors: Tensors, source: object) -> None:
    """Refuse the tensors of another model.

    Raises:
        CheckpointError: saying what it is.
    """
    own = any(name.endswith("h.0.attn.q_proj.weight") for name in tensors)
    family = None if own else family_of(tensors)
    if family is not None:
        raise CheckpointError(f"{source} holds no GPT-J. {family}")


def file_sizes(tensors: Tensors, head: str) -> dict[str, int]:
    """Return the fields of a configuration of a head that the tensors of a file show."""
    bare = {name.removeprefix(BASE_PREFIX): tensor.shape for name, tensor in tensors.items()}
    own = (name for name in bare if not LEGACY_BUFFERS.search(name))
    layers = {int(found[1]) for found in map(_LAYER.match, own) if found}
    count = len(layers) if layers == set(range(len(layers))) else 0
    vocabulary = [(EMBEDDING, 0), (LM_HEAD, 0), ("lm_head.bias", 0)]
    shown = {
        "vocab_size": [(name.removeprefix(BASE_PREFIX), axis) for name, axis in vocabulary],
        "n_embd": [("wte.weight", 1), ("ln_f.weight", 0), ("h.0.ln_1.weight", 0)],
        "n_inner": [(f"h.{layer}.mlp.fc_in.bias", 0) for layer in range(count)],
    }
    sizes = {name: _common(bare, places) for name, places in shown.items()}
    sizes["n_layer"] = count or None
    sizes["num_labels"] = _labels(bare, head)
    sizes["rotary_dim"] = _rotated(tensors)
    return {name: size for name, size in sizes.items() if size}


def fitted(
    content: Mapping[str, Any],
    tensors: Tensors,
    source: object,
    head: str,
    changes: Mapping[str, Any] | None = None,
) -> tuple[dict[str, Any], list[str]]:
    """Return the content of a configuration as the tensors have it, and each change in a sentence.

    Args:
        changes: fields that the user has set, which stay.

    Raises:
        CheckpointError: for what differs and does not follow from the tensors, with both numbers.
        ConfigError: for content that no configuration has.
    """
    fixed = {ALIASES.get(name, name): value for name, value in (changes or {}).items()}
    labels = fixed.keys() & LABEL_FIELDS
    values, notes = plain_content(
        {
            key: value
            for key, value in content.items()
            if ALIASES.get(key, key) not in fixed and not (labels and key in LABEL_FIELDS)
        }
    )
    values |= fixed
    default = GPTJConfig()
    own = {*fixed, *(["num_labels"] if labels else ())}
    sizes = {name: size for name, size in file_sizes(tensors, head).items() if name not in own}
    _check_width(values, sizes, source)
    for name, size in sizes.items():
        stated = _stated(name, values, default)
        if stated != size:
            notes.append(
                f"config.json has {name} = {stated}, the tensors have {size}, which is used"
            )
            values[name] = size
            if name == "num_labels":
                values = {k: v for k, v in values.items() if k not in ("id2label", "label2id")}
    is_stated = "tie_word_embeddings" not in fixed and values.get("tie_word_embeddings")
    if is_stated and LM_HEAD in tensors and not is_tied(tensors):
        notes.append(
            f"config.json ties the head to the word table, but {LM_HEAD} is another matrix, which "
            "is used"
        )
        values["tie_word_embeddings"] = False
    notes += _contradicted_positions(values, tensors)
    _check_table(values, tensors, source)
    return values, notes + misleading_keys(GPTJConfig.from_dict(values))


def guessed(
    tensors: Tensors, source: object, head: str, changes: Mapping[str, Any] | None = None
) -> tuple[dict[str, Any], str]:
    """Return a configuration for a folder that has none, and a sentence on what was assumed.

    Args:
        changes: fields that the user has set, which stay.

    Raises:
        CheckpointError: if the tensors do not show the sizes.
    """
    given = {ALIASES.get(name, name): value for name, value in (changes or {}).items()}
    sizes = file_sizes(tensors, head)
    width = sizes.get("n_embd", 0)
    fitting = (n for n in _head_counts(width) if width and width % (2 * n) == 0)
    heads = given.get("n_head") or next(fitting, None)
    if heads is None or "n_layer" not in sizes:
        raise CheckpointError(
            f"{source} has no config.json, which a checkpoint needs, and its tensors do not show "
            "the sizes of a GPT-J. Put one there, or name one: config= in Python, --config on the "
            "command line."
        )
    assumed = {"n_head": heads, "n_positions": GPTJConfig().n_positions}
    if "rotary_dim" not in sizes and isinstance(heads, int):
        assumed["rotary_dim"] = min(ROTARY_DIM, width // heads)
    masks = _mask_sizes(tensors)
    if len(masks) == 1:
        sizes["n_positions"] = masks.pop()
    content: dict[str, Any] = {**assumed, **sizes}
    if LM_HEAD not in tensors and "lm_head.bias" in tensors:
        content["tie_word_embeddings"] = True
    if sizes.get("vocab_size", VOCAB_SIZE) <= EOS_TOKEN_ID:
        content |= {"bos_token_id": None, "eos_token_id": None}
    said = [f"{n} = {x}, " for n, x in assumed.items() if n not in given and n not in sizes]
    return content | given, (
        f"has no config.json: its sizes follow from its tensors; {''.join(said)}the "
        f"activation {GPTJConfig().activation_function} and whatever else they do not show are "
        "assumed. If the model has others, its text is wrong: put a "
        "config.json there, or name one by config="
    )


def is_tied(tensors: Tensors) -> bool:
    """Return whether the weight of the language-model head equals the word table."""
    table = tensors.get(EMBEDDING) or tensors.get(EMBEDDING.removeprefix(BASE_PREFIX))
    head = tensors[LM_HEAD]
    if table is None or table.shape != head.shape:
        return False
    first, second = table.read(), head.read()
    rows = range(0, table.shape[0], 1024)
    return all(np.array_equal(first[at : at + 1024], second[at : at + 1024]) for at in rows)


def _stated(name: str, values: Mapping[str, Any], default: GPTJConfig) -> Any:
    """Return what a configuration says of a size, with the default where it says nothing."""
    if name == "n_inner" and values.get(name) is None:
        width = values.get("n_embd", default.n_embd)
        return 4 * width if isinstance(width, int) else None
    if name == "num_labels":
        return len(values["id2label"]) if values.get("id2label") else values.get(name, 2)
    if name == "rotary_dim" and name in values and values[name] is None:
        width, heads = values.get("n_embd", default.n_embd), values.get("n_head", default.n_head)
        return width // heads if heads else None
    return values.get(name, getattr(default, name))


def _check_width(values: Mapping[str, Any], sizes: Mapping[str, int], source: object) -> None:
    """Refuse another width than the tensors': how many heads it has does not follow from them."""
    stated, found = values.get("n_embd", GPTJConfig().n_embd), sizes.get("n_embd")
    if found not in (None, stated):
        raise CheckpointError(
            f"{source} does not fit its config.json: that has n_embd = {stated}, the tensors have "
            f"{found}, from which the number of heads does not follow. Put the config.json there "
            "that belongs to these weights."
        )


def _check_table(values: Mapping[str, Any], tensors: Tensors, source: object) -> None:
    """Refuse a context whose rotary table would be far larger than the weights."""
    positions = values.get("n_positions", GPTJConfig().n_positions)
    rotated = values.get("rotary_dim") or ROTARY_DIM
    if not isinstance(positions, int) or not isinstance(rotated, int):
        return
    need, room = 4 * positions * rotated, sum(tensor.nbytes for tensor in tensors.values())
    if need > max(TABLE_BYTES, room):
        raise CheckpointError(
            f"{source} has n_positions = {positions} in its configuration: the rotary table would "
            f"take {need} bytes beside weights of {room}. Set n_positions to the context that the "
            "model was trained with; 2048 is the 6B's."
        )


def _contradicted_positions(values: Mapping[str, Any], tensors: Tensors) -> list[str]:
    """Return a sentence if the masks of old files are of another context; it stays a limit."""
    sizes, stated = _mask_sizes(tensors), values.get("n_positions", GPTJConfig().n_positions)
    if not sizes or sizes == {stated}:
        return []
    found = ", ".join(map(str, sorted(sizes)))
    return [f"config.json has n_positions = {stated}, the masks among the tensors have {found}"]


def _mask_sizes(tensors: Tensors) -> set[int]:
    masks = (t for n, t in tensors.items() if n.endswith(".attn.bias") and len(t.shape) == 4)
    return {mask.shape[-1] for mask in masks}


def _rotated(tensors: Tensors) -> int | None:
    """Return the size that buffers of rotary positions show.

    Raises:
        CheckpointError: for frequencies of another base than GPT-J's.
    """
    shown: set[int] = set()
    for name, tensor in tensors.items():
        if _POSITIONS.search(name) and len(tensor.shape) == 2:
            shown.add(tensor.shape[1])
        elif _FREQUENCIES.search(name) and len(tensor.shape) == 1:
            shown.add(2 * tensor.shape[0])
            _check_frequencies(name, tensor)
    return shown.pop() if len(shown) == 1 else None


def _check_frequencies(name: str, tensor: LazyTensor) -> None:
    size = tensor.shape[0]
    if not 0 < size <= 2**16:
        return
    wanted = ROTARY_BASE ** -(np.arange(size) / size)
    if not np.allclose(np.asarray(tensor.read(), np.float64), wanted, rtol=0.02, atol=1e-5):
        raise CheckpointError(
            f"{name} holds other frequencies than GPT-J's rotary positions with the base "
            f"{ROTARY_BASE}: the model was trained with others, which gptj does not have."
        )


def _labels(shapes: Mapping[str, tuple[int, ...]], head: str) -> int | None:
    """Return the number of labels that a head's own tensors show; a language model has none."""
    modules = () if head == "causal_lm" else find_head(head).modules
    found = [shapes[f"{module}.weight"] for module in modules if f"{module}.weight" in shapes]
    return found[0][0] if found and len(found[0]) == 2 else None


def _common(shapes: Mapping[str, tuple[int, ...]], places: list[tuple[str, int]]) -> int | None:
    """Return the size on which the tensors agree that are there."""
    found = [shapes[name] for name, _ in places if name in shapes]
    if any(len(shapes[name]) <= axis for name, axis in places if name in shapes):
        return None
    sizes = {shapes[name][axis] for name, axis in places if name in shapes}
    return sizes.pop() if found and len(sizes) == 1 else None


def _head_counts(width: int) -> list[int]:
    """Return numbers of heads, the likeliest first: heads as wide as the 6B's, or as many."""
    own = [width // HEAD_WIDTH] if width >= HEAD_WIDTH and width % HEAD_WIDTH == 0 else []
    return [*own, 16, 8, 4, 2, 1]
