"""What a checkpoint holds decides: strangers' tensors, names, dtypes, and configurations beside."""

import json
import logging
import struct

import ml_dtypes
import msgpack
import numpy as np
import pytest

import gptj
from gptj.checkpoint import safetensors
from gptj.checkpoint.folder import open_checkpoint
from gptj.checkpoint.memory_map import READABLE
from gptj.errors import CheckpointError
from gptj.model.loading import load_model
from gptj.spec.tensors import LazyTensor
from gptj.spec.weight_names import DIALECTS
from noting import Noting
from paths import TINY

pytestmark = pytest.mark.neutral

CONFIG = json.loads((TINY / "config.json").read_text(encoding="utf-8"))
TENSORS = dict(open_checkpoint(TINY).tensors)
WIDTH = CONFIG["n_embd"]
HEAD = ("lm_head.weight", "lm_head.bias")
FLAX = DIALECTS["flax"]


def ones(*shape, dtype="f4"):
    return LazyTensor.of(np.ones(shape, dtype))


def write_any(path, tensors):
    """Write safetensors of any dtype, also of those that gptj never writes."""
    codes = {READABLE[name]: code for code, name in safetensors.READ_CODES.items()}
    header, data = {}, b""
    for name, tensor in sorted(tensors.items()):
        start, data = len(data), data + tensor.read().tobytes()
        offsets = [start, len(data)]
        shape = list(tensor.shape)
        header[name] = {"dtype": codes[tensor.dtype], "shape": shape, "data_offsets": offsets}
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)


def written(folder, tensors=TENSORS, config=CONFIG, **changes):
    write_any(folder / "model.safetensors", tensors)
    if config is not None:
        text = json.dumps(config | changes)
        (folder / "config.json").write_text(text, encoding="utf-8")
    return folder


def load(folder, head="causal_lm", **options):
    return load_model(Noting(), head, folder, **options)


def assert_same(found, tensors=TENSORS):
    assert found.keys() == tensors.keys()
    for name, tensor in tensors.items():
        np.testing.assert_array_equal(found[name].read(), tensor.read())


def lines(folder):
    """Return what `gptj inspect` says of a folder below its tables."""
    found = str(gptj.inspect(folder)).splitlines()
    return [line for line in found if line.startswith(("note: ", "problem: ", "nothing"))]


STRANGERS = {
    "a value head": {"v_head.summary.weight": ones(1, WIDTH), "v_head.summary.bias": ones(1)},
    "a reward head": {"score.weight": ones(1, WIDTH), "score.bias": ones(1)},
    "a probe": {"probe.0.weight": ones(3, WIDTH)},
    "an optimizer's": {"transformer.wte.weight.exp_avg": ones(2), "optimizer.step": ones()},
    "another model": {"ref_model.transformer.wte.weight": ones(96, WIDTH)},
    "positions": {"transformer.h.1.attn.embed_positions": ones(64, 6)},
    "float8": {"probe.weight": LazyTensor.of(np.ones(3, ml_dtypes.float8_e5m2))},
    "unsigned": {"steps.weight": ones(3, dtype="u8")},
}


@pytest.mark.parametrize("kind", STRANGERS)
def test_tensors_beside_the_model_are_left_out_and_each_is_named_once(kind, tmp_path, caplog):
    folder = written(tmp_path, TENSORS | STRANGERS[kind])
    assert_same(load(folder).params)
    names = caplog.records[0].getMessage().split("leaves out ")[1].rstrip(".").split(", ")
    assert sorted(names) == sorted(STRANGERS[kind])
    assert len(caplog.records) == 1
    assert gptj.inspect(folder).to_dict()["left_out"] == names
    assert all(name in lines(folder)[0] for name in STRANGERS[kind])
    with pytest.raises(CheckpointError, match="strict=True refuses"):
        load(folder, strict=True)


def test_strict_takes_what_fits():
    assert_same(load(TINY, strict=True).params)


def test_the_head_that_is_asked_for_is_taken_from_several(tmp_path):
    tensors = TENSORS | {"score.weight": ones(2, WIDTH)}
    folder = written(tmp_path, tensors)
    found = load(folder, "sequence_classification").params
    assert_same({"score.weight": found["score.weight"]}, {"score.weight": tensors["score.weight"]})


@pytest.mark.parametrize(
    "name",
    ["transformer.h.0.attn.q_proj.bias", "transformer.h.0.ln_2.weight", "lm_head.scale"],
)
def test_a_part_of_the_model_is_never_left_out(name, tmp_path):
    folder = written(tmp_path, TENSORS | {name: ones(WIDTH)})
    with pytest.raises(CheckpointError, match=f"1 unexpected: {name}"):
        load(folder)
    assert any("tensors unexpected" in line for line in lines(folder))


def test_an_adapter_among_the_weights_is_never_left_out(tmp_path):
    name = "transformer.h.0.attn.q_proj.lora_A.weight"
    with pytest.raises(CheckpointError, match="holds an adapter's tensors"):
        load(written(tmp_path, TENSORS | {name: ones(2, WIDTH)}))


PREFIXES = ("module.", "_orig_mod.", "module._orig_mod.", "model.", "base_model.model.", "a.b.")


@pytest.mark.parametrize("bare", [False, True])
@pytest.mark.parametrize("prefix", PREFIXES)
def test_what_a_program_put_before_all_names_is_left_out(prefix, bare, tmp_path, caplog):
    own = {name.removeprefix("transformer." if bare else ""): t for name, t in TENSORS.items()}
    folder = written(tmp_path, {f"{prefix}{name}": tensor for name, tensor in own.items()})
    assert_same(load(folder).params)
    assert f"the tensors are found under {prefix!r}" in caplog.text
    assert lines(folder)[0].startswith(f"note: the tensors are found under {prefix!r}")


def test_a_prefix_may_leave_the_head_out(tmp_path):
    renamed = {name if name in HEAD else f"model.{name}": t for name, t in TENSORS.items()}
    assert_same(load(written(tmp_path, renamed)).params)


@pytest.mark.parametrize("part", ["_orig_mod", "module", "_checkpoint_wrapped_module"])
def test_what_wrappers_put_inside_names_is_left_out(part, tmp_path, caplog):
    renamed = {name.replace(".attn.", f".{part}.attn."): t for name, t in TENSORS.items()}
    assert_same(load(written(tmp_path, renamed)).params)
    assert f"'{part}.' was left out inside" in caplog.text


def test_several_models_in_one_file_are_told_and_none_is_taken(tmp_path):
    both = {f"{start}.{name}": t for start in ("actor", "critic") for name, t in TENSORS.items()}
    with pytest.raises(CheckpointError, match=r"several models, under 'actor\.', 'critic\.'"):
        load(written(tmp_path, both))


def test_float64_becomes_float32_and_a_warning_says_so(tmp_path, caplog):
    wide = {n: LazyTensor.of(t.read().astype(np.float64)) for n, t in TENSORS.items()}
    folder = written(tmp_path, wide, torch_dtype="float64")
    model = load(folder)
    assert model.dtype == "float32"
    assert_same(model.params)
    assert "25 tensors in float64 are read as float32" in caplog.text
    assert "torch_dtype = float64, which no backend computes in: float32" in caplog.text
    assert "no backend computes in: float32 is used" in lines(folder)[0]
    assert "float64 are read as float32" in lines(folder)[1]


def test_a_number_that_float32_cannot_hold_is_named(tmp_path):
    large = TENSORS | {"lm_head.bias": LazyTensor.of(np.full(96, 1e300))}
    model = load(written(tmp_path, large))
    with pytest.raises(CheckpointError, match=r"lm_head\.bias holds 1e\+300"):
        model.params["lm_head.bias"].read()


@pytest.mark.parametrize(
    ("dtype", "advice"),
    [
        ("int8", "another program quantized"),
        ("uint16", "another program quantized"),
        ("int64", "another program quantized"),
        ("bool", "another program quantized"),
        (ml_dtypes.float8_e4m3fn, "need their scales"),
        (ml_dtypes.float8_e5m2, "need their scales"),
        ("complex64", "Save the weights in one of 'float32'"),
    ],
    ids=str,
)
def test_a_dtype_that_no_weight_has_is_refused_with_advice(dtype, advice, tmp_path):
    odd = LazyTensor.of(np.ones(96, dtype))
    folder = written(tmp_path, TENSORS | {"lm_head.bias": odd})
    with pytest.raises(CheckpointError, match=rf"lm_head\.bias is \w+\. .*{advice}"):
        load(folder)
    assert any("of another dtype" in line for line in lines(folder))


def test_all_weights_of_another_dtype_are_named_in_few_words(tmp_path):
    folder = written(
        tmp_path, {n: LazyTensor.of(t.read().astype("i4")) for n, t in TENSORS.items()}
    )
    with pytest.raises(CheckpointError, match=r"mlp\.fc_in\.bias is int32 \(2\)") as raised:
        load(folder)
    assert len(str(raised.value)) < 1200


@pytest.mark.parametrize(
    ("changes", "field", "value"),
    [
        ({"n_layer": 28}, "n_layer", 2),
        ({"n_layer": 1}, "n_layer", 2),
        ({"n_layer": 10**6}, "n_layer", 2),
        ({"num_hidden_layers": 3, "n_layer": None}, "n_layer", 2),
        ({"n_inner": 160}, "n_inner", 112),
        ({"n_inner": None}, "n_inner", 112),
        ({"vocab_size": 50257}, "vocab_size", 96),
        ({"tie_word_embeddings": True}, "tie_word_embeddings", False),
    ],
    ids=str,
)
def test_the_tensors_win_over_the_configuration(changes, field, value, tmp_path, caplog):
    folder = written(tmp_path, **changes)
    model = load(folder)
    assert getattr(model.config, field) == value
    assert_same(model.params)
    assert len(caplog.records) == 1
    assert lines(folder) == [f"note: {caplog.records[0].getMessage()}", "nothing is wrong"]


def test_what_the_user_sets_stands_above_both(tmp_path):
    folder = written(tmp_path, n_layer=3)
    with pytest.raises(CheckpointError, match=r"unexpected: .*h\.1\."):
        load(folder, n_layer=1)
    assert load(written(tmp_path, n_positions=10**8), n_positions=16).config.n_positions == 16


def test_a_tie_beside_the_same_matrix_stays(tmp_path, caplog):
    same = TENSORS | {"lm_head.weight": TENSORS["transformer.wte.weight"]}
    folder = written(tmp_path, same, tie_word_embeddings=True)
    assert load(folder).config.tie_word_embeddings
    assert caplog.records == []
    assert lines(folder) == ["nothing is wrong"]


def test_a_tied_head_without_its_flag_says_what_to_pass(tmp_path):
    tensors = {name: t for name, t in TENSORS.items() if name != "lm_head.weight"}
    folder = written(tmp_path, tensors)
    with pytest.raises(CheckpointError, match="pass tie_word_embeddings=True"):
        load(folder)
    assert load(folder, tie_word_embeddings=True).config.tie_word_embeddings


def test_the_rows_of_a_classifier_win_over_the_labels(tmp_path, caplog):
    tensors = {n: t for n, t in TENSORS.items() if n not in HEAD} | {"score.weight": ones(5, WIDTH)}
    folder = written(tmp_path, tensors, id2label={"0": "a", "1": "b", "2": "c"})
    assert load(folder, "sequence_classification").config.num_labels == 5
    assert "num_labels = 3, the tensors have 5" in caplog.text
    with pytest.raises(CheckpointError, match="of another shape: score"):
        load(folder, "sequence_classification", num_labels=4)


def test_the_rotation_that_buffers_show_wins(tmp_path, caplog):
    frequencies = LazyTensor.of((10_000.0 ** -(np.arange(4) / 4)).astype("f4"))
    name = "transformer.h.0.attn.rotary_emb.inv_freq"
    assert load(written(tmp_path, TENSORS | {name: frequencies})).config.rotary_dim == 8
    assert "rotary_dim = 6, the tensors have 8" in caplog.text
    other = LazyTensor.of((500_000.0 ** -(np.arange(3) / 3)).astype("f4"))
    with pytest.raises(CheckpointError, match="other frequencies"):
        load(written(tmp_path, TENSORS | {name: other}))


def test_another_context_of_the_masks_is_told(tmp_path, caplog):
    mask = LazyTensor.of(np.tri(32, dtype=np.uint8)[None, None])
    folder = written(tmp_path, TENSORS | {"transformer.h.0.attn.bias": mask})
    assert load(folder).config.n_positions == CONFIG["n_positions"]
    assert f"n_positions = {CONFIG['n_positions']}, the masks among the tensors have 32" in (
        caplog.text
    )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"n_embd": 80}, "n_embd = 80, the tensors have 40"),
        ({"n_positions": 10**8}, "the rotary table would take"),
    ],
    ids=str,
)
def test_what_does_not_follow_from_the_tensors_is_an_error_with_both_numbers(
    changes, message, tmp_path
):
    folder = written(tmp_path, **changes)
    with pytest.raises(CheckpointError, match=message):
        load(folder)
    assert any(message in line for line in lines(folder))


def test_more_layers_than_tensors_are_refused_before_any_work():
    with pytest.raises(CheckpointError, match="n_layer = 60000: it holds 25 tensors"):
        load(TINY, n_layer=60_000)


def test_a_folder_without_configuration_is_guessed(tmp_path, caplog):
    folder = written(tmp_path, config=None)
    model = load(folder)
    assert_same(model.params)
    assert (model.config.n_layer, model.config.n_inner, model.config.vocab_size) == (2, 112, 96)
    assert "n_head = 4, n_positions = 2048, rotary_dim = 10, the activation gelu" in caplog.text
    assert "are assumed" in lines(folder)[0]
    caplog.clear()
    config = load(folder, num_attention_heads=2, n_positions=64).config
    assert (config.n_head, config.n_positions, config.rotary_dim) == (2, 64, 20)
    assert "tensors; rotary_dim = 20, the activation" in caplog.text


def test_the_6bs_shapes_give_the_6bs_configuration():
    from gptj.checkpoint.config_from_tensors import guessed
    from gptj.spec.params import parameter_table

    table = parameter_table(gptj.GPTJConfig())
    shapes = {n: LazyTensor(p.shape, np.dtype("f4"), lambda: None) for n, p in table.items()}
    content, _ = guessed(shapes, "here", "causal_lm")
    assert gptj.GPTJConfig.from_dict(content, n_inner=None) == gptj.GPTJConfig()


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["transformer.h.0.attn.qkv_proj.weight"], "CodeGen looks like GPT-J, but"),
        (["h.0.attn.c_attn.weight", "wpe.weight"], "GPT-2 has learned positions"),
        (["gpt_neox.layers.0.attention.query_key_value.weight"], "GPT-NeoX"),
        (["transformer.h.0.attn.attention.q_proj.weight"], "GPT-Neo has"),
        (["model.layers.0.self_attn.q_proj.weight"], "Llama"),
    ],
    ids=str,
)
@pytest.mark.parametrize("config", [None, {}, CONFIG], ids=["none", "empty", "gptj's"])
def test_another_familys_tensors_say_what_they_are(names, message, config, tmp_path):
    folder = written(tmp_path, dict.fromkeys(names, ones(2, 2)), config)
    with pytest.raises(CheckpointError, match=f"holds no GPT-J. {message}"):
        load(folder)
    assert any(message in line for line in lines(folder))


def test_a_model_is_silent_where_nothing_was_done(caplog):
    with caplog.at_level(logging.INFO, "gptj"):
        load(TINY)
    assert caplog.records == []
    assert lines(TINY) == ["nothing is wrong"]


def test_a_dtype_that_rounds_the_tensors_is_told(tmp_path, caplog):
    folder = written(tmp_path, torch_dtype="bfloat16")
    assert load(folder).dtype == "bfloat16"
    assert "torch_dtype = bfloat16, the tensors are in float32: they are rounded" in caplog.text
    assert "no tensor is in it: loading rounds them" in lines(folder)[0]
    caplog.clear()
    assert load(folder, dtype="float32").dtype == "float32"
    assert caplog.records == []


@pytest.mark.parametrize("start", ["params.", "state.params.params."])
def test_a_training_state_in_msgpack_is_opened(start, tmp_path, caplog):
    tree = {}
    for name, tensor in TENSORS.items():
        *parents, leaf = f"{start}{FLAX.native_name(name).replace('/', '.')}".split(".")
        node = tree
        for part in parents:
            node = node.setdefault(part, {})
        array = tensor.read()
        array = array.T if FLAX.transposes(name) and array.ndim == 2 else array
        packed = msgpack.packb((array.shape, array.dtype.name, array.tobytes()))
        node[leaf] = msgpack.ExtType(1, packed)
    content = msgpack.packb({**tree, "step": 3, "none": None, "lr": 0.5, "name": "x"})
    (tmp_path / "flax_model.msgpack").write_bytes(content)
    (tmp_path / "config.json").write_text(json.dumps(CONFIG), encoding="utf-8")
    assert_same(load(tmp_path).params)
    assert f"the tensors are found under {start!r}" in caplog.text
