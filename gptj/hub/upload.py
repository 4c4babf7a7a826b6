"""Upload what can be saved in a folder into a repository of the hub."""

import logging
from collections.abc import Callable, Iterable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from gptj.errors import CheckpointError

if TYPE_CHECKING:
    from huggingface_hub import CommitInfo

CARD = "README.md"

log = logging.getLogger("gptj")


class Uploads:
    """Base of what `save_pretrained` writes into a folder: a model, its configuration, a tokenizer.

    Attributes:
        model_tags: words for the repository's page, if any.
    """

    model_tags: list[str] | None = None

    if TYPE_CHECKING:  # every class has its own
        save_pretrained: Callable[..., Any]

    def push_to_hub(
        self,
        repo_id: str,
        *,
        commit_message: str | None = None,
        commit_description: str | None = None,
        private: bool | None = None,
        token: str | bool | None = None,
        revision: str | None = None,
        create_pr: bool = False,
        tags: Iterable[str] | None = None,
        **options: Any,
    ) -> "CommitInfo":
        """Upload what `save_pretrained` writes, in one commit; other files there stay.

        Args:
            repo_id: ``"organisation/name"`` or ``"name"``; made if it is not there.
            commit_message, commit_description: of the commit.
            private: whether a new repository is.
            token: gives access; None uses that of ``hf auth login``.
            revision: a branch, which is made if it is not there.
            create_pr: propose the commit instead of making it.
            tags: words for the page, besides `model_tags`; a page that is there stays as it is.
            options: of `save_pretrained`.

        Raises:
            CheckpointError: if the hub cannot be reached or refuses.
        """
        from huggingface_hub import HfApi  # slow to import
        from huggingface_hub.errors import HfHubHTTPError, HFValidationError

        api = HfApi(token=token)
        words = list(dict.fromkeys((*(self.model_tags or ()), *(tags or ()))))
        with TemporaryDirectory(prefix="gptj-upload-") as folder:
            self.save_pretrained(folder, **options)
            try:
                name = api.create_repo(repo_id, private=private, exist_ok=True).repo_id
                if revision is not None and not create_pr:
                    api.create_branch(name, branch=revision, exist_ok=True)
                if words and api.file_exists(name, CARD, revision=revision):
                    log.warning("%s has a page, which stays without the tags %s.", name, words)
                elif words:
                    (Path(folder) / CARD).write_text(_card(name, words), encoding="utf-8")
                return api.upload_folder(
                    repo_id=name,
                    folder_path=folder,
                    commit_message=commit_message or f"Upload {type(self).__name__}",
                    commit_description=commit_description,
                    revision=revision,
                    create_pr=create_pr,
                    ignore_patterns=[".*"],
                )
            except (HfHubHTTPError, HFValidationError, OSError) as error:
                said = " ".join(str(error).split()).removesuffix(".")
                raise CheckpointError(
                    f"Nothing was uploaded to {repo_id!r}: {said}. Log in with `hf auth login`, or "
                    "pass token=, which must be allowed to write there."
                ) from error


def _card(name: str, tags: Iterable[str]) -> str:
    """Return the page of a repository that has none."""
    listed = "".join(f"- {tag}\n" for tag in ("gptj", *(tag for tag in tags if tag != "gptj")))
    return f"---\nlibrary_name: gptj\ntags:\n{listed}---\n\n# {name.rpartition('/')[2]}\n"
