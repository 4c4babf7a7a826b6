"""GPT-J for lm-eval, EleutherAI's evaluation harness: the model ``gptj``, on every backend.

Importing this module registers the model, and needs lm-eval.
"""

import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final, TypeVar

from gptj.errors import (
    ArgumentError,
    BackendUnavailable,
    DataError,
    UnsupportedFeature,
    choices,
    suggest,
)
from gptj.integrations.harness_model import (
    harness_batch_size,
    harness_max_length,
    harness_model,
    harness_tokenizer,
)
from gptj.integrations.harness_requests import HarnessRequests
from gptj.model.pretrained import Pretrained
from gptj.spec.types import Device, DType
from gptj.system.versions import VERSION, install_command
from gptj.tokenizer import GPTJTokenizer

if find_spec("lm_eval") is None:
    raise BackendUnavailable(
        f"Evaluating needs lm-eval, which is not installed. Install it with: "
        f"{install_command('eval')}."
    )

from lm_eval import simple_evaluate
from lm_eval.api.instance import Instance
from lm_eval.api.model import LM
from lm_eval.api.registry import register_model
from lm_eval.tasks import TaskManager
from lm_eval.utils import handle_non_serializable, make_table

Answer = TypeVar("Answer")

MOST_SAID: Final = 300
"""Characters of an error of lm-eval's that a message shows."""


@register_model("gptj")
class GPTJ(LM):
    """A GPT-J of any backend, as lm-eval asks its models.

    ``lm_eval.simple_evaluate(model=GPTJ("demo", backend="flax"), tasks=[...])``; or by name, with
    these arguments as ``model_args``.
    """

    def __init__(
        self,
        pretrained: str | Path | Pretrained = "demo",
        *,
        tokenizer: str | Path | GPTJTokenizer | None = None,
        backend: str | None = None,
        dtype: DType = "auto",
        device: Device | None = None,
        batch_size: int | str = 8,
        max_batch_size: int | None = None,
        max_length: int | None = None,
        max_gen_toks: int = 256,
        seed: int = 1234,
        **options: Any,
    ) -> None:
        """Load a model, or take one that is loaded.

        Args:
            pretrained: a name as in ``gptj.load``, or a model with a language-model head.
            tokenizer: the model's own if None.
            backend, dtype, device: as in ``gptj.load``, for a name.
            batch_size: how many sequences are computed at once.
            max_batch_size: None; it belongs to batch sizes that lm-eval finds out.
            max_length: how many tokens the model reads at most; n_positions if None.
            max_gen_toks: new tokens where a task does not say how many.
            seed: of sampling; a text per request, the same on every backend.
            options: what ``gptj.load`` takes: `revision`, `quantize`, fields of the configuration.

        Raises:
            ArgumentError: for an option that is unknown, impossible, or without effect.
            UnsupportedFeature: for a model that has another head.
        """
        super().__init__()
        how: Any = {"backend": backend, "dtype": dtype, "device": device, **options}
        model = harness_model(pretrained, how)
        self.requests = HarnessRequests(
            model,
            harness_tokenizer(tokenizer, model),
            batch_size=harness_batch_size(batch_size, max_batch_size),
            max_length=harness_max_length(max_length, model),
            max_gen_toks=max_gen_toks,
            seed=seed,
        )

    @property
    def model(self) -> Pretrained:
        """The model."""
        return self.requests.model

    @property
    def tokenizer(self) -> GPTJTokenizer:
        """The tokenizer of the model."""
        return self.requests.tokenizer

    @property
    def batch_size(self) -> int:
        """How many sequences are computed at once."""
        return self.requests.batch_size

    @property
    def max_length(self) -> int:
        """How many tokens the model reads at most."""
        return self.requests.max_length

    @property
    def max_gen_toks(self) -> int:
        """New tokens where a task does not say how many."""
        return self.requests.max_gen_toks

    @property
    def eot_token_id(self) -> int | None:
        """The token that ends a text, if the tokenizer has one."""
        return self.tokenizer.eos_token_id

    @property
    def prefix_token_id(self) -> int:
        """The token that stands before a text without a context."""
        return self.requests.prefix_token_id

    @property
    def tokenizer_name(self) -> str:
        """Where the tokenizer is from, for lm-eval's cache of requests."""
        return str(self.model.source_folder or "gptj")

    def get_model_info(self) -> dict[str, Any]:
        """Return what lm-eval writes into its results beside the model's name."""
        backend = self.model.backend
        return {
            "gptj_version": VERSION,
            "model_backend": backend.name,
            "model_source": str(self.model.source_folder),
            "max_length": self.max_length,
            **{f"{name}_version": version for name, version in backend.versions().items()},
        }

    def loglikelihood(
        self, requests: list[Instance], disable_tqdm: bool = False
    ) -> list[tuple[float, bool]]:
        """Return for pairs of context and continuation: log-probability, and whether greedy."""
        pairs = [request.args for request in requests]
        return self._collected("loglikelihood", pairs, self.requests.log_likelihoods(pairs))

    def loglikelihood_rolling(
        self, requests: list[Instance], disable_tqdm: bool = False
    ) -> list[float]:
        """Return the log-probabilities of whole texts, of any length."""
        given = [request.args for request in requests]
        answers = self.requests.rolling_log_likelihoods([text for (text,) in given])
        return self._collected("loglikelihood_rolling", given, answers)

    def generate_until(self, requests: list[Instance], disable_tqdm: bool = False) -> list[str]:
        """Return what follows contexts, each up to the strings in its `until`."""
        given = [request.args for request in requests]
        return self._collected("generate_until", given, self.requests.continuations(given))

    def apply_chat_template(
        self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True
    ) -> str:
        """Refuse: GPT-J has no chat template."""
        raise UnsupportedFeature("GPT-J has no chat template: leave out apply_chat_template.")

    def _collected(
        self, kind: str, given: list[Any], answers: Iterable[tuple[int, Answer]]
    ) -> list[Answer]:
        """Return answers in the order of their requests; lm-eval's cache gets each at once."""
        found = {}
        for index, answer in answers:
            found[index] = answer
            self.cache_hook.add_partial(kind, given[index], answer)
        return [found[index] for index in range(len(given))]


class Tasks(TaskManager):
    """Tasks of lm-eval with their data, found before a model is loaded."""

    def __init__(self, names: Sequence[str], include_path: str | Path | None = None) -> None:
        """Load tasks.

        Args:
            names: of tasks, groups or tags, patterns of names, or YAML files.
            include_path: a folder with tasks of one's own.

        Raises:
            ArgumentError: for a name that no task has.
            DataError: for a task that lm-eval cannot use, and for data that cannot be read, or not
                without a network.
        """
        own = None if include_path is None else str(include_path)
        with _reading(names):
            super().__init__(include_path=own, include_defaults=False)
            if not all(_is_file(name) or name in self.all_subtasks for name in names):
                super().__init__(include_path=own)  # slow: lm-eval's own are thousands of files
        self.names = [found for name in names for found in self._matching(name)]
        with _reading(self.names):
            self.loaded = super().load(self.names)
        for name, task in self.loaded["tasks"].items():
            with _reading([name]):
                _try(task)

    def load(self, task_list: object) -> Any:
        """Return the tasks as they are."""
        return self.loaded

    def _matching(self, name: str) -> list[str]:
        """Return the tasks that a name stands for."""
        if _is_file(name):
            return [name]
        found: list[str] = self.match_tasks([name])
        if not found:
            raise ArgumentError(
                f"lm-eval has no task {name!r}.{suggest(name, self.all_tasks)} `lm-eval ls tasks` "
                "lists them; tasks of your own are found in include_path."
            )
        return found


@contextmanager
def _reading(names: Sequence[str]) -> Iterator[None]:
    """Say in one line what is wrong with tasks; lm-eval raises whatever its parts raise."""
    try:
        yield
    except OSError as error:
        raise DataError(f"The data of {choices(names)} cannot be read: {error}") from error
    except Exception as error:  # a task may run any code
        said = " ".join(str(error).split()).removesuffix(".")
        raise DataError(
            f"lm-eval cannot use the task {choices(names)}: {type(error).__name__}: "
            f"{said[:MOST_SAID]}. Check its YAML file, and the columns and splits of its data."
        ) from error


def _try(task: Any) -> None:
    """Make the requests of the first document, and look up how scores are put together."""
    task.build_all_requests(limit=1)
    unknown = [name for name, function in task.aggregation().items() if not callable(function)]
    if unknown:
        raise ValueError(f"there is no such aggregation for the metric {choices(unknown)}")


def _is_file(name: str) -> bool:
    """Whether the name of a task is that of a file."""
    return name.endswith((".yaml", ".yml")) and Path(name).is_file()


def evaluate(
    model: GPTJ,
    tasks: Tasks,
    *,
    limit: float | None = None,
    num_fewshot: int | None = None,
    bootstrap_iters: int = 100000,
) -> dict[str, Any]:
    """Return what lm-eval finds about a model, as JSON can hold it, without the samples.

    Args:
        limit: documents per task; below 1 the part of them.
        num_fewshot: examples in every prompt; the task's own number if None.
        bootstrap_iters: draws of a standard error; 0 for none.
    """
    found = simple_evaluate(
        model=model,
        tasks=tasks.names,
        task_manager=tasks,
        limit=limit,
        num_fewshot=num_fewshot,
        bootstrap_iters=bootstrap_iters,
        batch_size=model.batch_size,
        log_samples=False,
    )
    plain: dict[str, Any] = json.loads(json.dumps(found, default=handle_non_serializable))
    return plain


def table(results: dict[str, Any]) -> str:
    """Return results as a table, and one of the groups where there are any."""
    kinds = [kind for kind in ("results", "groups") if results.get(kind)]
    return "\n".join(make_table(results, kind).strip() for kind in kinds)
