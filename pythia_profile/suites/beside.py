"""What a study may read beside its suite's store: held-out text, and the documents' sizes.

In: a suite and paths. Out: rows that the run never read, as controls; the run's index maps, which
say how much of each row had been read before.
"""

import logging
from pathlib import Path

import numpy as np
import numpy.typing as npt

from data_order import Layout, MegatronStore, NeoxOrder, NeoxRows, TokenRows
from data_order.neox.layout import samples_asked
from data_order.pack import pack_text
from data_order.published import PublishedOrder
from data_order.sample import RowSource
from data_order.store.files import bin_path, store_prefix
from pythia_profile.errors import StudyError
from pythia_profile.suites.model import Suite

__all__ = ["check_maps", "held_out_rows", "index_maps"]

log = logging.getLogger(__name__)

_HUB = "hf://"
_COMPARED = 16


def held_out_rows(suite: Suite, where: str, tokenizer: str, near: Path) -> RowSource:
    """Open a store of rows that the run never read, or pack a file of documents into such rows.

    Parameters
    ----------
    where : store as `TokenRows.open` takes it, or documents as `pack_text` does (.jsonl).
    tokenizer : `tokenizer.json` or its folder, for documents; empty for the suite's.
    near : folder against which relative paths are read.

    Raises
    ------
    StudyError
        It is the store that the run read, there is no tokenizer, or a token is not in the
        vocabulary.
    StoreNotFoundError
        There is no such file.
    """
    if where.startswith(_HUB):
        if where == suite.store:
            raise StudyError(f"sample.held_out: '{where}' is the store that the run read")
        return TokenRows.open(where, suite.row_tokens, vocabulary=suite.vocabulary)
    path = near / where
    if suite.store and not suite.store.startswith(_HUB):
        own = (suite.root or Path()) / suite.store
        if store_prefix(path).resolve() == store_prefix(own).resolve():
            raise StudyError(f"sample.held_out: '{where}' is the store that the run read")
    if ".jsonl" not in path.suffixes:
        return TokenRows.open(path, suite.row_tokens, vocabulary=suite.vocabulary)
    own_tokenizer = suite.root and suite.tokenizer and suite.root / suite.tokenizer
    encoder = near / tokenizer if tokenizer else own_tokenizer
    if not encoder:
        raise StudyError(
            f"sample.held_out: '{where}' is text and suite '{suite.name}' brings no tokenizer; "
            "name its tokenizer.json in sample.held_out_tokenizer"
        )
    rows = pack_text(path, encoder, suite.row_tokens)
    if (largest := int(rows.max())) >= suite.vocabulary:
        raise StudyError(
            f"sample.held_out: '{where}' holds token {largest}, suite '{suite.name}' has "
            f"{suite.vocabulary:,}; the tokenizer is another suite's"
        )
    return rows


def index_maps(suite: Suite, documents: str, split: str, near: Path) -> NeoxOrder:
    """Rebuild the index maps of a suite's run from the sizes of its documents and its data seed.

    Parameters
    ----------
    documents : `.idx` of the documents that the run shuffled.
    split : weights of its document split; empty where it read all documents.
    near : folder against which a relative path is read.

    Raises
    ------
    StudyError
        The suite's data seed is not known, or the documents make fewer rows than were read.
    StoreError
        The file is missing, or damaged.
    """
    order = suite.order
    training = order.until(suite.steps)
    samples, seed = samples_asked(training, split), suite.data_seed
    if isinstance(order, PublishedOrder):
        seed = order.seed
        samples = samples if split else order.samples
    if seed is None:
        raise StudyError(
            f"sample.documents: the data seed of suite '{suite.name}' is not known, which the "
            "order of its documents needs; write data_seed in its suite.toml"
        )
    layout = Layout(seed=seed, samples=samples, sequence_length=suite.row_tokens - 1, split=split)
    log.info("rebuilding the order from %s; half a minute for Pythia", documents)
    maps = NeoxOrder.from_idx(near / documents, layout, training)
    if len(maps) < training.rows:
        raise StudyError(
            f"sample.documents: '{documents}' makes {len(maps):,} rows, the run read "
            f"{training.rows:,}; it is another store, or the split is another"
        )
    return maps


def check_maps(
    maps: NeoxOrder,
    documents: Path,
    row_ids: npt.NDArray[np.int64],
    tokens: npt.NDArray[np.integer],
) -> None:
    """Compare some rows (n,) with those rebuilt, where the documents' tokens are there, too.

    Raises
    ------
    StudyError
        A row has other tokens: it is another order.
    """
    prefix = store_prefix(documents)
    if not bin_path(prefix).is_file():
        log.warning(
            "%s: no .bin beside it, so that the rebuilt order was not compared with the rows",
            documents,
        )
        return
    some = np.linspace(0, len(row_ids) - 1, min(_COMPARED, len(row_ids))).astype(np.int64)
    rebuilt = NeoxRows(maps, MegatronStore(prefix))[row_ids[some]]
    other = np.flatnonzero((rebuilt != tokens[some]).any(axis=1))
    if len(other):
        raise StudyError(
            f"sample.documents: row {int(row_ids[some][other[0]])} of the suite is not the one "
            f"that '{documents}' and the data seed make; seed, split or documents are others"
        )
