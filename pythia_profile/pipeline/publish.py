"""An exported data set to a repository of the hub, through `huggingface_hub`."""

import re
from pathlib import Path

from data_order.errors import RemoteError
from data_order.hub.access import hub_endpoint
from pythia_profile.errors import StudyError
from pythia_profile.redaction import redact

__all__ = ["publish"]

_REPOSITORY = re.compile(r"[\w-][\w.-]{0,95}/[\w-][\w.-]{0,95}", re.ASCII)


def publish(folder: Path | str, repository: str, *, push: bool = False) -> list[str]:
    """Send the files of an exported data set, in one commit; without `push` only say what.

    The token is `HF_TOKEN`, or the hub's own file; the repository is made where it is missing.

    Returns
    -------
    A line for each file, and one that says what was done or is to be done.

    Raises
    ------
    StudyError
        The folder is no exported data set, or the repository's name is none.
    RemoteError
        The hub does not answer, or refuses.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError

    folder = Path(folder)
    if not (folder / "croissant.json").exists():
        raise StudyError(f"'{folder}' is no exported data set; make one with `export --to`")
    if not _REPOSITORY.fullmatch(repository):
        raise StudyError(f"repository: got '{repository}', expected OWNER/NAME")
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    endpoint = hub_endpoint()
    lines = [f"{path.relative_to(folder)}: {path.stat().st_size:,} bytes" for path in files]
    where = f"{endpoint}/datasets/{repository}"
    if not push:
        return [*lines, f"nothing was sent; --push sends these {len(files)} files to {where}"]
    api = HfApi(endpoint=endpoint)
    try:
        api.create_repo(repository, repo_type="dataset", exist_ok=True)
        done = api.upload_folder(
            repo_id=repository,
            folder_path=folder,
            repo_type="dataset",
            commit_message="Data set of a pythia-profile study",
        )
    except HfHubHTTPError as error:
        reason = " ".join(redact(str(error)).split())[:200]
        raise RemoteError(f"the hub refuses '{repository}': {reason}") from error
    except (OSError, ValueError) as error:
        reason = " ".join(redact(str(error)).split())[:200]
        raise RemoteError(f"publishing to {where} failed: {reason}") from error
    return [*lines, f"sent to {where}: commit {done.oid}"]
