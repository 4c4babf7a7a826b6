"""The methods that a backend needs for some capabilities alone, for one without these."""

from typing import Any

from gptj.errors import UnsupportedFeature


class Refusals:
    """Base of a backend that does not declare all capabilities; what it does declare it overrides.

    Every method raises `UnsupportedFeature`. Who asks the capabilities first never calls one.
    """

    name: str

    def _refuse(self, *arguments: Any, **inputs: Any) -> Any:
        """Refuse, whatever is given.

        Raises:
            UnsupportedFeature: naming the backend.
        """
        raise UnsupportedFeature(
            f"The backend {self.name!r} cannot do this. Its `capabilities` say what it can."
        )

    decode = stream = capture = gradients = _refuse
    add_adapter = dump_adapter = merge_adapter = unmerge_adapter = remove_adapter = _refuse
    dump_optimizer = load_optimizer = mixed = trainer = _refuse
