"""What the tests of exports share: inputs of several shapes, and each format in its own runtime."""

import numpy as np

from models import draw_ids
from tolerances import assert_close

FIELDS = {
    "base": ["last_hidden_state"],
    "causal_lm": ["logits"],
    "sequence_classification": ["logits"],
    "question_answering": ["end_logits", "start_logits"],
}
"""Head -> the names of its outputs in every format, as a dict of them is sorted."""

IDS = draw_ids((3, 7), seed=9).astype(np.int32)
MASK = np.array([[1] * 7, [0, 0, 1, 1, 1, 1, 1], [0] * 4 + [1] * 3], np.int32)
SHAPES = {
    "padded": (IDS, MASK),
    "one sequence": (IDS[:1, :3], MASK[:1, :3]),
    "padded on the right": (draw_ids((2, 12), seed=3).astype(np.int32), np.tri(2, 12, 8, np.int32)),
}
"""Ids and masks of other shapes than any export is told of."""


def assert_agrees(run, model, head="causal_lm", kind="exported", shapes=SHAPES):
    """Fail where what a runtime computes is not what the model does, at tokens that count."""
    for name, (ids, mask) in shapes.items():
        expected, found = model(ids, attention_mask=mask), run(ids, mask)
        assert sorted(found) == FIELDS[head]
        kept = ... if head == "sequence_classification" else mask != 0
        for field in FIELDS[head]:
            actual = np.asarray(found[field])[kept]
            assert_close(actual, expected[field].numpy()[kept], kind, name=f"{field}, {name}")


def onnx(path):
    """Return what ONNX Runtime computes, as a function of ids and mask, and the names of both."""
    import onnxruntime

    session = onnxruntime.InferenceSession(path)
    names = [output.name for output in session.get_outputs()]

    def run(*inputs):
        given = zip(session.get_inputs(), inputs, strict=False)
        found = session.run(names, {place.name: value for place, value in given})
        return dict(zip(names, found, strict=True))

    return run, [place.name for place in session.get_inputs()]


def openvino(path):
    """Return what OpenVINO computes, as a function of ids and mask, and the names of both."""
    import openvino

    # a processor with bfloat16 would compute in it
    compiled = openvino.compile_model(path, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    names = [place.any_name for place in compiled.inputs]

    def run(*inputs):
        found = compiled(dict(zip(names, inputs, strict=False)))
        outputs = {name: output for output in compiled.outputs for name in output.names}
        return {name: found[output] for name, output in outputs.items() if "/" not in name}

    return run, names


def litert(path, signature=None):
    """Return what LiteRT computes, as a function of ids and mask, and the names of both."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_path=path)
    (known,) = interpreter.get_signature_list().values()
    runner = interpreter.get_signature_runner(signature)
    names = sorted(known["inputs"], reverse=True)
    return lambda *inputs: runner(**dict(zip(names, inputs, strict=False))), names


RUNTIMES = {"onnx": (onnx, "onnx"), "openvino": (openvino, "xml"), "litert": (litert, "tflite")}
"""Format of Keras -> its runtime, and how the name of its file ends."""


def through(format, model, folder, **options):
    """Export a model, and return what the runtime of a format computes, and its inputs' names."""
    load, ending = RUNTIMES[format]
    path = folder / f"model.{ending}"
    model.export(str(path), format=format, **options)
    return load(str(path))
