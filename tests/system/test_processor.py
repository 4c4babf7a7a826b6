"""What is read of the operating system's description of a processor."""

import pytest

from gptj.system import processor

pytestmark = pytest.mark.neutral

X86 = (
    "processor\t: 0\nvendor_id\t: AuthenticAMD\nflags\t\t: fpu avx2 avx512_bf16\n\nprocessor\t: 1\n"
)
ARM = "processor\t: 0\nFeatures\t: fp asimd fphp bf16\n"


@pytest.fixture
def described(tmp_path, monkeypatch):
    """Return what describes a processor in some text from now on; None is no text."""

    def describe(text):
        monkeypatch.setattr(processor, "CPUINFO", tmp_path / "cpuinfo")
        if text is not None:
            processor.CPUINFO.write_text(text)
        processor.instructions.cache_clear()

    yield describe
    processor.instructions.cache_clear()


@pytest.mark.parametrize(
    ("text", "dtypes"),
    [(X86, {"bfloat16"}), (ARM, {"bfloat16", "float16"}), ("flags: avx2\n", set()), (None, set())],
    ids=["x86", "arm", "older", "untold"],
)
def test_instructions_for_a_dtype_are_known_by_name(described, text, dtypes):
    described(text)
    asked = ("float32", "bfloat16", "float16", "int8")
    assert {dtype for dtype in asked if processor.multiplies_in(dtype)} == dtypes


def test_the_maker_is_what_the_processor_says(described):
    described(X86)
    assert processor.vendor() == "AuthenticAMD"


def test_without_a_description_the_maker_is_what_python_knows(described, monkeypatch):
    described(None)
    monkeypatch.setattr("platform.processor", lambda: "")
    monkeypatch.setattr("platform.machine", lambda: "riscv64")
    assert processor.vendor() == "riscv64"
