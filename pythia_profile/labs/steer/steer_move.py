"""A steer moved to another model, by the output embeddings of tokens that both have."""

import numpy as np
import numpy.typing as npt
import torch
from transformers.modeling_utils import PreTrainedModel

from pythia_profile.errors import not_found
from pythia_profile.labs.steer.steer_map import Steer, fitting_head, output_head
from pythia_profile.labs.steer.steer_settings import SteerError

__all__ = ["moved_steer"]


def moved_steer(
    steer: Steer,
    source: PreTrainedModel,
    target: PreTrainedModel,
    tokens: npt.ArrayLike | None = None,
    *,
    states: str = "dual",
) -> Steer:
    """Move a steer to a model of another width, with H that solves E_to H = E_from (least squares).

    Embeddings e_to stand for Hᵀ e_to in the source. States are dual to them: a state means the
    same where it gives the same logits, c_toᵀ e_to = c_fromᵀ Hᵀ e_to, hence c_from = H⁺ c_to and
    W' = (H⁺)ᵀ W Hᵀ (`dual`). The paper takes Hᵀ for states, too: W' = H W Hᵀ (`same`), which is
    this where H has orthonormal columns. What all embeddings share moves all logits alike and
    says nothing, so H is solved for embeddings less their mean.

    Parameters
    ----------
    states : `dual` or `same`, as above.
    tokens : ids, the same in both vocabularies, on which the models are set side by side: frequent
        ones. By default all that both have.

    Returns
    -------
    A steer of the target's width, whose `facts` hold how well embeddings agree: R², the share of
    the source's spread that H explains.

    Raises
    ------
    SteerError
        There are no more tokens than the target has dimensions, so that any H would fit.

    Source: Han et al. (2024), arXiv 2305.12798, on transfer; the dual map is ours.
    """
    if states not in ("dual", "same"):
        raise not_found("map of states", states, ["dual", "same"])
    theirs = fitting_head(source, steer).weight.detach().double().cpu()
    ours = output_head(target).weight.detach().double().cpu()
    shared = min(len(theirs), len(ours))
    ids = np.arange(shared) if tokens is None else np.unique(np.asarray(tokens, dtype=np.int64))
    if len(ids) and not 0 <= ids[0] <= ids[-1] < shared:
        raise SteerError(f"tokens {ids[0]} to {ids[-1]}: the models share 0 to {shared - 1}")
    if len(ids) <= ours.shape[1] + 1:
        raise SteerError(
            f"{len(ids)} shared tokens for a model of width {ours.shape[1]}: so few fit any map; "
            "name more tokens"
        )
    e_to, e_from = (_centered(one[torch.from_numpy(ids)]) for one in (ours, theirs))
    h = torch.linalg.lstsq(e_to, e_from).solution
    left = ((e_to @ h - e_from) ** 2).sum() / (e_from**2).sum()
    of_states = torch.linalg.pinv(h).T if states == "dual" else h
    facts = {"moved": dict(steer.facts), "tokens": len(ids), "states": states}
    # A (P1 P2) Hᵀ = (A P1) (P2 Hᵀ): the rank stays
    return Steer(
        (of_states @ steer.down.double()).float(),
        (steer.up.double() @ h.T).float(),
        (h @ steer.state.double()).float(),
        {**facts, "r2": float(1 - left)},
    )


def _centered(embeddings: torch.Tensor) -> torch.Tensor:
    return embeddings - embeddings.mean(dim=0)
