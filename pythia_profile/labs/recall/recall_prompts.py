"""How little of a prompt is needed: its shortest suffix that still gives the whole continuation.

Tokens keep their positions when those before them are dropped: a model with learned positions
would otherwise read its prompt at places where it never learned it, and seem to need all of it.
"""

import numpy as np
import numpy.typing as npt
import torch
from transformers.modeling_utils import PreTrainedModel

from pythia_profile.labs.recall.recall_errors import RecallError

__all__ = ["gives_back", "shortest_suffix"]


@torch.no_grad()
def gives_back(
    model: PreTrainedModel,
    rows: npt.NDArray[np.integer],
    prompt: int,
    count: int,
    *,
    kept: int | None = None,
    batch_size: int = 64,
) -> npt.NDArray[np.bool_]:
    """Whether greedy decoding after a prompt gives the whole continuation; (n,).

    One forward pass decides it: each token of the continuation must be the likeliest after the true
    ones before it.

    Parameters
    ----------
    rows : (n, T) token ids; the first `prompt` are the prompt, the next `count` the continuation.
    kept : last tokens of the prompt that are read, at the positions that they have in the whole;
        all by default.
    batch_size : rows of a forward pass.

    Raises
    ------
    RecallError
        Rows are shorter than prompt and continuation, or no token is kept.
    """
    kept = prompt if kept is None else kept
    if not 1 <= kept <= prompt or count < 1 or rows.shape[1] < prompt + count:
        raise RecallError(
            f"rows of {rows.shape[1]} tokens, prompt {prompt}, kept {kept}, continuation {count}; "
            "expected 1 to `prompt` kept tokens, and rows that hold prompt and continuation"
        )
    found = []
    places = torch.arange(prompt - kept, prompt + count - 1, device=model.device)[None]
    for first in range(0, len(rows), batch_size):
        part = rows[first : first + batch_size, prompt - kept : prompt + count]
        ids = torch.from_numpy(part.astype(np.int64)).to(model.device)
        logits = model(
            input_ids=ids[:, :-1],
            position_ids=places.expand(len(ids), -1),
            use_cache=False,
            logits_to_keep=count,
        ).logits
        found.append((logits.argmax(dim=2) == ids[:, -count:]).all(dim=1).cpu().numpy())
    return np.concatenate(found) if found else np.empty(0, dtype=bool)


def shortest_suffix(
    model: PreTrainedModel,
    rows: npt.NDArray[np.integer],
    prompt: int,
    count: int,
    *,
    batch_size: int = 64,
) -> npt.NDArray[np.int64]:
    """Length of the shortest suffix of each prompt that gives the whole continuation; (n,).

    Compressibility is this ÷ `prompt`. 0 where not even the whole prompt does: such rows are not
    memorized. A longer suffix need not do where a shorter one does.
    """
    found = np.zeros(len(rows), np.int64)
    open_ = np.flatnonzero(gives_back(model, rows, prompt, count, batch_size=batch_size))
    for kept in range(1, prompt + 1):
        if not len(open_):
            break
        enough = gives_back(model, rows[open_], prompt, count, kept=kept, batch_size=batch_size)
        found[open_[enough]] = kept
        open_ = open_[~enough]
    return found
