"""Write the golden ggml files, without gptj: ``pip install gguf==0.19 safetensors``, then run this.

``formats/ggml`` is the model of the other forms, laid out as the loader of ctransformers 0.2.27
reads it, whose logits it was checked against. ``ggml/blocks.npz`` has numbers, the blocks that gguf
makes of them, any other blocks, and what gguf reads from both.
"""

import json
import struct

import numpy as np

from paths import GOLDEN

BLOCK_TYPES = ("Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0")


def write_model():
    from safetensors.numpy import load_file

    source = GOLDEN / "formats" / "safetensors"
    config = json.loads((source / "config.json").read_text(encoding="utf-8"))
    names = ("vocab_size", "n_positions", "n_embd", "n_head", "n_layer", "rotary_dim")
    folder = GOLDEN / "formats" / "ggml"
    folder.mkdir(exist_ok=True)
    with (folder / "ggml-model-f32.bin").open("wb") as file:
        file.write(struct.pack("<I", 0x67676D6C))
        file.write(struct.pack("<7i", *(config[name] for name in names), 0))
        file.write(struct.pack("<i", config["vocab_size"]))
        for index in range(config["vocab_size"]):
            is_end = index == config["eos_token_id"]
            token = b"<|endoftext|>" if is_end else b"token %d" % index
            file.write(struct.pack("<i", len(token)) + token)
        for name, array in load_file(source / "model.safetensors").items():
            if name.endswith((".attn.bias", ".attn.masked_bias")):
                continue
            shape = array.shape[::-1]
            file.write(struct.pack(f"<3i{len(shape)}i", len(shape), len(name), 0, *shape))
            file.write(name.encode() + array.astype("<f4").tobytes())


def write_blocks():
    from gguf import GGMLQuantizationType
    from gguf.quants import dequantize, quantize

    generator = np.random.default_rng(7)
    numbers = generator.standard_normal((6, 64)).astype(np.float32)
    numbers[1] = np.round(2 * numbers[1]) / 2  # halves
    numbers[2, :32] = 0
    numbers[3, 32:] = 1.5
    numbers[4] *= 1e-4
    content = {"numbers": numbers}
    for name in BLOCK_TYPES:
        kind = GGMLQuantizationType[name]
        blocks = quantize(numbers, kind)
        other = generator.integers(0, 256, blocks.shape, np.uint8)
        scales = other.reshape(6, 2, -1)
        scales[..., 1] &= 0x3F  # no NaN: the exponent of a scale in float16
        if name.endswith("1"):
            scales[..., 3] &= 0x3F
        key = name.lower()
        content |= {f"{key} blocks": blocks, f"{key} other": other}
        content[f"{key} read"] = dequantize(blocks, kind)
        content[f"{key} other read"] = dequantize(other, kind)
    (GOLDEN / "ggml").mkdir(exist_ok=True)
    np.savez_compressed(GOLDEN / "ggml" / "blocks.npz", **content)


if __name__ == "__main__":
    write_model()
    write_blocks()
