"""Who is compared: the backends of gptj, and their peers."""

from dataclasses import dataclass
from pathlib import Path

from compare_models import prepare, widest

from gptj.bench.bench import memory_need
from gptj.bench.contenders import QUIET, Contender, backend_command
from gptj.errors import GPTJError

HERE = Path(__file__).parent
DTYPES = ("float32", "bfloat16")
ALL = (*DTYPES, "int8")
WIDE = ("float32", "int8")


@dataclass(frozen=True)
class System:
    """A system that may be compared.

    Attributes:
        name: in tables; those of this package begin with "gptj".
        form: of the files it reads, as in ``compare_models.prepare``.
        backend: the framework, as gptj calls it, by which its memory is estimated.
        script: of ``benchmarks/workers``, or None for a backend of gptj.
        dtypes: in which its files can be stored; others it makes of float32.
        copies: how many times the memory of gptj's backend it may take.
        compiles: whether every length is compiled for a minute, too long for curves.
        trains: whether it can train.
        computes: dtypes that it computes in.
    """

    name: str
    form: str
    backend: str
    script: str | None = None
    dtypes: tuple[str, ...] = DTYPES
    copies: float = 1.0
    compiles: bool = False
    trains: bool = True
    computes: tuple[str, ...] = DTYPES


SYSTEMS = (
    System("gptj torch", "safetensors", "torch", computes=ALL),
    System("transformers torch", "safetensors", "torch", "hf_torch", copies=1.2),
    System("gptj tf", "safetensors", "tf", computes=ALL),
    System("transformers tf", "tf", "tf", "hf_tf", ("float32",), copies=2.5, compiles=True),
    System("gptj flax", "safetensors", "flax", computes=ALL),
    System("transformers flax", "flax", "flax", "hf_flax", copies=2.5, compiles=True),
    # in bfloat16 it computes as in float32
    System("CTranslate2", "ct2", "torch", "ct2", WIDE, 2.0, trains=False, computes=WIDE),
)


def contender(system, model, dtype, work, folder, peers):
    """Return a system with a model's files, or why there can be none, as text.

    Args:
        work: what it will do, all of it training or none.
        folder: where the models are.
        peers: the environment of the peers.
    """
    train = any(workload.kind == "train" for workload in work)
    source = widest(model)
    stored = source if train or dtype not in system.dtypes else dtype
    try:
        files = prepare(folder, model, system.form, stored, python_of(peers))
    except (GPTJError, RuntimeError, OSError) as error:
        return f"{system.form}: {error}"
    own = prepare(folder, model, "safetensors", source, python_of(peers))
    need = system.copies * memory_need(own, system.backend, dtype, work, train)
    environment = {**QUIET, "PYTHONPATH": str(HERE.parent), "HF_HUB_OFFLINE": "1"}
    command = command_of(system, peers)
    return Contender(system.name, dtype, str(files), command, train, int(need), environment)


def command_of(system, peers):
    """Return what starts a system's process."""
    if system.script is None:
        return backend_command(system.backend)
    return (python_of(peers), str(HERE / "workers" / f"{system.script}.py"))


def python_of(peers):
    """Return the Python of the peers' environment."""
    return str(Path(peers).absolute() / "bin" / "python")


def choose(names, phase, dtype):
    """Return the systems of a phase whose names contain one of some words, or any if none."""
    named = [s for s in SYSTEMS if not names or any(word in s.name for word in names)]
    left_out = {"training": lambda s: not s.trains, "curves": lambda s: s.compiles}
    named = [s for s in named if dtype in s.computes]
    return [s for s in named if phase not in left_out or not left_out[phase](s)]
