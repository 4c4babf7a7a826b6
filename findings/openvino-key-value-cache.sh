#!/usr/bin/env bash
# OpenVINO keeps keys and values as 8-bit numbers on a CPU where float32 was asked for.
#
# With:  OpenVINO 2026.4.1
# Valid: attention over variables that grow (ReadValue, Gather, Concat, ScaledDotProductAttention,
#        Assign), as optimum-intel exports it, all in float32, compiled for the CPU with
#        INFERENCE_PRECISION_HINT=f32
# Seen:  the first call, whose keys are all new, is exact to 1e-6; the next is off by 4e-3. The states
#        say float32, the property KV_CACHE_PRECISION says uint8; with that set to f32 the second call
#        is exact as well. A test of prompts alone sees nothing, only text that is written does.
# Due:   float32 where the hint says so, or a word in the hint's page
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet openvino==2026.4.1 numpy==2.4.6
"$folder/venv/bin/python" - <<'PY' 2>"$folder/log" || { cat "$folder/log"; exit 1; }
import numpy as np
import openvino
from openvino import opset13 as op
from openvino.op.util import Variable, VariableInfo

HEADS, WIDTH = 2, 16
names = ("query", "key", "value")
query, key, value = (op.parameter([-1, HEADS, -1, WIDTH], np.float32, name=name) for name in names)
rows = op.parameter([-1], np.int32, name="beam_idx")
empty = op.broadcast(
    op.constant(np.float32(0)),
    op.concat([op.shape_of(rows), op.constant(np.array([HEADS, 0, WIDTH]))], axis=0),
)


def grown(name, new):
    info = VariableInfo()
    info.variable_id, info.data_type = name, openvino.Type.f32
    info.data_shape = openvino.PartialShape([-1, HEADS, -1, WIDTH])
    store = Variable(info)
    past = op.gather(op.read_value(empty, store), rows, op.constant(0))
    whole = op.concat([past, new], axis=2)
    return whole, op.assign(whole, store)


keys, keep_keys = grown("keys", key)
values, keep_values = grown("values", value)
attended = op.scaled_dot_product_attention(query, keys, values, causal=False)
model = openvino.Model([attended.output(0)], [keep_keys, keep_values], [query, key, value, rows])

draw = np.random.default_rng(0)
q, k, v = (draw.standard_normal((1, HEADS, 9, WIDTH)).astype(np.float32) for _ in range(3))


def exact(first, last, upto):
    scores = np.einsum("bhtd,bhsd->bhts", q[:, :, first:last], k[:, :, :upto], dtype=np.float64) / 4
    weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return weights / weights.sum(axis=-1, keepdims=True) @ v[:, :, :upto]


def errors(**options):
    options = {"INFERENCE_PRECISION_HINT": "f32", **options}
    compiled = openvino.Core().compile_model(model, "CPU", options)
    request, found = compiled.create_infer_request(), []
    for first, last in ((0, 8), (8, 9)):
        new = [array[:, :, first:last] for array in (q, k, v)]
        request.infer([*new, np.zeros(1, np.int32)])
        found.append(abs(request.get_output_tensor().data - exact(first, last, last)).max())
    hint, kept = (compiled.get_property(name) for name in ("INFERENCE_PRECISION_HINT", "KV_CACHE_PRECISION"))
    stated = {str(state.state.element_type) for state in request.query_state()}
    print(f"hint {hint}, cache {kept}, states {stated}: off by {found[0]:.0e}, then {found[1]:.0e}")
    return found


(prompt, step), (_, mended) = errors(), errors(KV_CACHE_PRECISION="f32")
assert prompt < 1e-5 and step > 1e-3 and mended < 1e-5, "the cache is kept otherwise now"
PY
