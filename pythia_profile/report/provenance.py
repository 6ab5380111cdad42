"""Where a study's numbers come from: how they were estimated, on what, when, with what.

In: the study's settings and its lock file. Out: named facts and frames for the report's tables.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import polars as pl

from data_order.published import published_order
from pythia_profile.study import Estimation, Sampling, Study

__all__ = [
    "IMPORTED_EFFECTS",
    "assumptions",
    "clustered_by",
    "estimation_facts",
    "imported_facts",
    "size_table",
    "stage_table",
    "suite_facts",
]

STAGES = {
    "sample": "drew the rows to score (and trained the models of a suite that is trained locally)",
    "covariates": "made features of the rows' tokens, and scored them by the reference model",
    "score": "scored the rows at every checkpoint",
    "att": "estimated ATT(g, c), simultaneous bands and placebo tests",
    "precision": "set the estimate beside the same one at equal covariates",
    "profile": "aggregated the effects; compared sizes",
    "check": "computed the diagnostics",
    "findings": "found what the profiles say: rates, predictions, decay, bits",
    "counterfactual": "retrained without some cohorts; compared estimates with true effects",
    "remembered": "scored the most and the least remembered rows token by token",
    "plot": "drew the figures",
}
"""What each stage did, in order. The report cannot know its own duration."""

_CONTROLS = {
    "never": "never-treated rows, which no step up to the last checkpoint reads",
    "not_yet": "rows of cohorts that are read after the checkpoint (not yet treated)",
    "both": "never-treated rows, and rows of cohorts that are read after the checkpoint",
}
_BASES = {
    "universal": "for all cells, the last checkpoint before {start}",
    "varying": "from {start} on, the last checkpoint before it; for earlier cells, the checkpoint "
    "before each. The diagnostics use the former for all",
}
_ESTIMATORS = {
    "did": "difference-in-differences: change since the base checkpoint, treated minus control",
    "diff": "plain difference: outcome at the checkpoint, treated minus control, without a base",
    "ancova": "analysis of covariance: change since the base checkpoint, treated minus control, "
    "adjusted for the outcome at the base",
}
_MISSING = {
    "error": "no estimate is made if a row lacks a score",
    "balanced": "rows that lack a score at any checkpoint are left out",
    "available": "each cell uses the rows that have the scores it needs",
}
_SECOND = {
    "cut": "rows whose text is read again lose their cells from the second reading on",
    "keep": "rows whose text is read again keep all cells",
    "drop": "rows whose text is read again, or had been read before, are left out",
}
_FAMILIES = {
    "post": "all cells from the cohort on; cells before treatment have a band of their own",
    "placebo": "all cells before treatment",
    "all": "all cells",
}
_FAULTY = {
    "refuse": "the study is not scored if a checkpoint is not what it claims to be",
    "skip": "checkpoints that are not what they claim to be are left out",
    "accept": "checkpoints are scored even if they are not what they claim to be",
}
_PASSES = {
    True: "no text is read twice",
    False: "some text is read more than once",
    None: "whether text is read twice is not stated",
}
_ONCE = {
    True: "; true of this suite by construction",
    False: "; not true of this suite, some of whose text is read more than once: effects are those "
    "of reading a row in addition to other readings of its text",
    None: "; nothing is known of this for the suite",
}
"""By whether the suite passes over its text once."""


IMPORTED_EFFECTS = [
    ("effects", "imported: att.parquet was not estimated by this study"),
    (
        "estimator, controls, bands",
        "those of the imported table's source; the settings of study.toml do not describe them",
    ),
]
"""What is known of effects that were imported."""


def estimation_facts(study: Study, notes: Sequence[str] = ()) -> list[tuple[str, str]]:
    """Name every setting on which the estimates depend, with what `auto` stands for.

    Parameters
    ----------
    notes : of the estimation, which say what `auto` came to.

    Examples
    --------
    >>> study = Study(suite="pythia", sizes=("70m",))
    >>> dict(estimation_facts(study))["standard errors"]
    "clustered by batch (clusters = 'auto': rows are drawn from 10 batches of each cohort)"
    """
    sample, score, chosen = study.sample, study.score, study.estimate
    batches = sample.batches_per_cohort
    drawn = f"from {batches} batches of each cohort" if batches else "over all rows of each cohort"
    ahead = chosen.anticipation
    start = f"the {ahead} checkpoints of anticipation" if ahead else "its cohort"
    why = f": rows are drawn {drawn}" if study.estimate.clusters == "auto" else ""
    family = _FAMILIES.get(chosen.family, f"the cells of {chosen.family}")
    held_out = f" from the held-out text '{sample.held_out}'" if sample.held_out else ""
    return [
        ("outcomes", ", ".join(study.outcomes)),
        (
            "treated rows",
            f"up to {sample.rows_per_cohort:,} a cohort, drawn {drawn}{_restricted(sample)}",
        ),
        (
            "controls",
            f"{_CONTROLS[chosen.control]}; {sample.never_treated:,} never-treated rows were "
            f"requested{held_out} (control = '{chosen.control}')",
        ),
        ("estimator", f"{_ESTIMATORS[chosen.estimator]} (estimator = '{chosen.estimator}')"),
        ("base", f"{_BASES[chosen.base].format(start=start)} (base = '{chosen.base}')"),
        (
            "covariates",
            f"{_covariates(chosen)} (covariates = {chosen.covariates}, adjustment = "
            f"'{chosen.adjustment}')",
        ),
        (
            "anticipation",
            f"effects may begin up to {ahead} checkpoints before the cohort's (anticipation = "
            f"{ahead})"
            if ahead
            else "none: effects may begin with the step that reads the row, not before "
            "(anticipation = 0)",
        ),
        ("missing scores", f"{_MISSING[chosen.missing]} (missing = '{chosen.missing}')"),
        (
            "second readings",
            f"{_SECOND[chosen.second_reading]} (second_reading = '{chosen.second_reading}')",
        ),
        (
            "standard errors",
            f"clustered by {clustered_by(study, notes)} (clusters = '{study.estimate.clusters}'"
            f"{why})",
        ),
        (
            "bands",
            f"{100 * chosen.level:g} % (level = {chosen.level:g}), simultaneous over {family} "
            f"(family = '{chosen.family}'); for profiles, over the estimates of one kind",
        ),
        (
            "bootstrap",
            f"{chosen.draws:,} draws (draws = {chosen.draws}) with seed {chosen.seed} (seed = "
            f"{chosen.seed})",
        ),
        ("forward pass", f"{score.dtype}, {score.attention} attention, device {score.device}"),
        ("faulty checkpoints", f"{_FAULTY[score.faulty]} (faulty = '{score.faulty}')"),
    ]


def clustered_by(study: Study, notes: Sequence[str] = ()) -> str:
    """Say what standard errors are clustered by, and what `auto` came to by the notes.

    Without a note, rows drawn over a whole cohort share a batch only by chance.
    """
    if study.estimate.clusters != "auto":
        return study.estimate.clusters
    told = {by for by in ("batch", "row") for note in notes if f"clusters='auto': by {by}" in note}
    if told:
        return " or ".join(sorted(told))
    return "batch" if study.sample.batches_per_cohort else "row"


def _restricted(sample: Sampling) -> str:
    """Say what restricts the draw, beside its size."""
    if sample.published:
        return " by the published study's own seeds (published = true)"
    if sample.single_exposure:
        return ", none of whose text another row holds (single_exposure = true)"
    return ""


def _covariates(chosen: Estimation) -> str:
    if not chosen.covariates:
        return "none: treated and control rows are compared as they are"
    ways = {
        "regression": "by regression of the changes among the controls",
        "doubly_robust": "by that regression and by the probability of being treated",
    }
    return f"{', '.join(chosen.covariates)}, held equal {ways[chosen.adjustment]}"


def assumptions(study: Study, lock: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Name what the estimates assume, as the settings of the study have it."""
    ahead, suite = study.estimate.anticipation, lock.get("suite", {})
    trends = (
        "Parallel trends",
        "had it not been read, a row would have changed from the base checkpoint on as the control "
        "rows did. The placebo tests look for violations before treatment.",
    )
    levels = (
        "Equal levels",
        "had it not been read, a row would have had the outcome of the control rows, on average. "
        "The placebo tests look for violations before treatment.",
    )
    early = f", apart from the {ahead} checkpoints before its cohort" if ahead else ""
    once = _ONCE[suite.get("single_pass")]
    return [
        levels if study.estimate.estimator == "diff" else trends,
        ("No anticipation", f"a row has no effect before it is read{early}."),
        (
            "No interference",
            "reading one row does not change the memory of another by more than what all rows "
            "share; near-duplicates would violate this.",
        ),
        ("Single exposure", f"the text of a row is read once within the run{once}."),
        ("Checkpoints are what they claim", "checkpoint c holds the weights after c updates."),
    ]


def imported_facts(lock: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Name the stages whose tables come from elsewhere, with the hashes of their files."""
    return [
        (
            f"imported, not made by this study ({name})",
            ", ".join(f"{file} {digest[:12]}" for file, digest in record["outputs"].items()),
        )
        for name, record in lock.get("stages", {}).items()
        if record.get("source") == "imported"
    ]


def suite_facts(study: Study, lock: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Describe the suite, as far as the study uses it; empty where the lock file has none."""
    suite = lock.get("suite", {})
    drawn, bootstrap = study.sample.seed, study.estimate.seed
    seeds = f"training {study.training_seed}, sample {drawn}, bootstrap {bootstrap}"
    described = _described(suite) if suite else ()
    return [*described, ("seeds", seeds), *imported_facts(lock), *_warnings(study, suite)]


def size_table(study: Study, lock: Mapping[str, Any]) -> pl.DataFrame:
    """One line for each size of the study."""
    known = lock.get("suite", {}).get("sizes", {})
    lines = []
    for size in (known[name] for name in study.sizes if name in known):
        steps = size["checkpoints"]
        lines.append(
            {
                "size": size["name"],
                "parameters": size["parameters"],
                "without embeddings": size["non_embedding"] or None,
                "layers": size["layers"],
                "width": size["width"],
                "heads": size["heads"],
                "peak rate": f"{size['peak_lr']:.2e}",
                "last rate": f"{size['min_lr']:.2e}",
                "weights in": size["precision"],
                "checkpoints": f"{len(steps)}, {steps[0]:,} to {steps[-1]:,}" if steps else "–",
                "from": size["weights"],
            }
        )
    frame = pl.DataFrame(lines, infer_schema_length=None)
    return frame[[column.name for column in frame if column.null_count() < len(frame)]]


def stage_table(lock: Mapping[str, Any]) -> pl.DataFrame:
    """List what each stage did, its seconds, and the hashes of its output."""
    records = lock.get("stages", {})
    return pl.DataFrame(
        [
            {
                "stage": name,
                "what it did": "imported" if records[name].get("source") == "imported" else what,
                "seconds": float(records[name].get("seconds", 0.0)),
                "output (start of SHA-256)": ", ".join(
                    f"{file} {digest[:12]}" for file, digest in records[name]["outputs"].items()
                ),
            }
            for name, what in STAGES.items()
            if name in records
        ]
    )


def _changed(suite: Mapping[str, Any]) -> str:
    """Say where the batch size changed; nothing where it did not, or of an older lock file."""
    changes = [f"{size:,} from step {done + 1:,}" for done, size in suite.get("batch_changes", ())]
    return f", {', '.join(changes)}" if changes else ""


def _described(suite: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    yield "suite", f"{suite['name']}: {suite['title']}"
    again = _PASSES[suite["single_pass"]]
    yield (
        "training",
        f"{suite['steps']:,} steps of {suite['batch_size']:,} rows of {suite['row_tokens']:,} "
        f"tokens{_changed(suite)}; {again}",
    )
    rates = f"schedule {suite['schedule']}, {suite['warmup_steps']:,} steps of warm-up"
    if suite["decay_steps"]:
        rates += f", decay over {suite['decay_steps']:,}"
    yield "learning rate", rates
    published = suite.get("published")
    seed = f"shuffled with data seed {published_order(published).seed}; " if published else ""
    yield "order of rows", f"{seed}row store: {suite['store']}"
    if suite["label_steps"] > 1:
        yield "checkpoint labels", f"one label a {suite['label_steps']:,} steps"
    yield "revisions", str(suite["revision"])
    tokenizer = f", {suite['tokenizer']}" if suite["tokenizer"] else ""
    yield "vocabulary", f"{suite['vocabulary']:,} tokens{tokenizer}"


def _warnings(study: Study, suite: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield the notes on the suite, and the known faults of the sizes of the study."""
    for note in suite.get("notes", ()):
        yield "note", note
    for fault in suite.get("faults", ()):
        if fault["size"] not in ("", *study.sizes):
            continue
        steps = fault["steps"]
        listed = ", ".join(f"{step:,}" for step in steps[:6]) + (" …" if len(steps) > 6 else "")
        where = f"{fault['size'] or 'all sizes'}" + (f", steps {listed}" if steps else "")
        yield "known fault", f"{where}: {fault['what']} ({', '.join(fault['threads'])})"
