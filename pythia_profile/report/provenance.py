"""Where a study's numbers come from: how they were estimated, on what, when, with what.

In: the study's settings and its lock file. Out: named facts and frames for the report's tables.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import polars as pl

from pythia_profile.study import Study

__all__ = ["estimation_facts", "size_table", "stage_table", "suite_facts"]

STAGES = {
    "sample": "drew the rows to score; trained the models, where the suite is trained here and "
    "they were not there yet",
    "score": "ran every checkpoint over the rows",
    "att": "estimated ATT(g, c), its bands and the tests before treatment",
    "profile": "averaged the effects; compared the sizes",
    "check": "looked for what the effects rest on",
    "counterfactual": "retrained without some cohorts; set estimates against the truth",
    "plot": "drew the figures",
}
"""What each stage does, in order. The report cannot know how long it takes itself."""

_CONTROLS = {
    "never": "rows that no step up to the last checkpoint reads (never-treated)",
    "not_yet": "rows of cohorts that are read after the checkpoint (not yet treated)",
    "both": "rows that no step up to the last checkpoint reads, and rows of cohorts that are read "
    "after the checkpoint",
}
_BASES = {
    "universal": "every cell is a change since the last checkpoint before its cohort",
    "varying": "from the cohort on, a cell is a change since the last checkpoint before the "
    "cohort; before it, since the checkpoint before the cell. The checks use the former for all",
}
_FAULTY = {
    "refuse": "the study is not scored if a checkpoint is not what it claims to be",
    "skip": "checkpoints that are not what they claim to be are left out",
    "accept": "checkpoints are scored even if they are not what they claim to be",
}


def estimation_facts(study: Study) -> list[tuple[str, str]]:
    """Name every setting on which the estimates depend, with what `auto` stands for.

    Examples
    --------
    >>> study = Study(suite="pythia", sizes=("70m",))
    >>> dict(estimation_facts(study))["standard errors"]
    "by batch (clusters = 'auto': rows are drawn from 10 batches of each cohort)"
    """
    sample, score, estimate = study.sample, study.score, study.estimate
    drawn = (
        f"from {sample.batches_per_cohort} batches of each cohort"
        if sample.batches_per_cohort
        else "over all rows of each cohort"
    )
    return [
        ("outcomes", ", ".join(study.outcomes)),
        (
            "treated rows",
            f"{sample.rows_per_cohort:,} a cohort, or all it has, drawn {drawn}",
        ),
        (
            "controls",
            f"{_CONTROLS[estimate.control]}; {sample.never_treated:,} never-treated rows were "
            f"asked for (control = '{estimate.control}')",
        ),
        ("base", f"{_BASES[estimate.base]} (base = '{estimate.base}')"),
        ("anticipation", "none: effects may begin with the step that reads the row, not before"),
        ("standard errors", _clusters(study, drawn)),
        (
            "intervals",
            f"{100 * estimate.level:g} %; bands are simultaneous over all cells or lines of their "
            f"kind, by {estimate.draws:,} bootstrap draws with seed {estimate.seed}",
        ),
        (
            "forward pass",
            f"{score.dtype}, {score.attention} attention, device {score.device}",
        ),
        ("faulty checkpoints", f"{_FAULTY[score.faulty]} (faulty = '{score.faulty}')"),
    ]


def suite_facts(study: Study, lock: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Describe the suite, as far as the study uses it; empty where the lock file has none."""
    suite = lock.get("suite", {})
    drawn, bootstrap = study.sample.seed, study.estimate.seed
    seeds = f"training {study.training_seed}, sample {drawn}, bootstrap {bootstrap}"
    return [*(_described(suite) if suite else ()), ("seeds", seeds), *_warnings(study, suite)]


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
    """Say what each stage did, its seconds, and the hashes of what it wrote."""
    records = lock.get("stages", {})
    return pl.DataFrame(
        [
            {
                "stage": name,
                "what it did": what,
                "seconds": float(records[name]["seconds"]),
                "wrote (SHA-256 begins)": ", ".join(
                    f"{file} {digest[:12]}" for file, digest in records[name]["outputs"].items()
                ),
            }
            for name, what in STAGES.items()
            if name in records
        ]
    )


def _clusters(study: Study, drawn: str) -> str:
    by = study.estimate.clusters
    if by != "auto":
        return f"by {by} (clusters = '{by}')"
    chosen = "batch" if study.sample.batches_per_cohort else "row"
    return f"by {chosen} (clusters = 'auto': rows are drawn {drawn})"


def _described(suite: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    yield "suite", f"{suite['name']}: {suite['title']}"
    again = "each read once" if suite["single_pass"] else "some read more than once"
    yield (
        "training",
        f"{suite['steps']:,} steps of {suite['batch_size']:,} rows of {suite['row_tokens']:,} "
        f"tokens, {again}",
    )
    rates = f"schedule {suite['schedule']}, {suite['warmup_steps']:,} steps of warm-up"
    if suite["decay_steps"]:
        rates += f", decay over {suite['decay_steps']:,}"
    yield "learning rate", rates
    yield "order of rows", f"shuffled with seed {suite['seed']}; row store: {suite['store']}"
    if suite["label_steps"] > 1:
        yield "checkpoint labels", f"count {suite['label_steps']:,} steps"
    yield "revisions", str(suite["revision"])
    tokenizer = f", {suite['tokenizer']}" if suite["tokenizer"] else ""
    yield "vocabulary", f"{suite['vocabulary']:,} tokens{tokenizer}"


def _warnings(study: Study, suite: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield what is known of the suite, less the faults of sizes that the study has not."""
    for note in suite.get("notes", ()):
        yield "note", note
    for fault in suite.get("faults", ()):
        if fault["size"] not in ("", *study.sizes):
            continue
        steps = fault["steps"]
        listed = ", ".join(f"{step:,}" for step in steps[:6]) + (" …" if len(steps) > 6 else "")
        where = f"{fault['size'] or 'all sizes'}" + (f", steps {listed}" if steps else "")
        yield "known fault", f"{where}: {fault['what']} ({', '.join(fault['threads'])})"
