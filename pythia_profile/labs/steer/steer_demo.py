"""The lab on a language of two styles and on the mini suite: all that it asks, in minutes."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from pydantic import Field
from transformers.modeling_utils import PreTrainedModel

from pythia_profile.labs.lab_page import LabPart, write_lab_page
from pythia_profile.labs.steer.steer_auc import auc_interval
from pythia_profile.labs.steer.steer_figures import draw_sweep
from pythia_profile.labs.steer.steer_language import (
    LEXICON,
    TwoStyles,
    speakers,
    two_styles,
    two_styles_corpus,
)
from pythia_profile.labs.steer.steer_map import Steer
from pythia_profile.labs.steer.steer_memory import MemorySettings, MemoryTask, write_task
from pythia_profile.labs.steer.steer_models import Vocabulary, load_model
from pythia_profile.labs.steer.steer_move import moved_steer
from pythia_profile.labs.steer.steer_page import HAN, marked_texts
from pythia_profile.labs.steer.steer_read import (
    directions,
    inferred_values,
    read_direction_tokens,
    read_texts_by,
    token_evidence,
)
from pythia_profile.labs.steer.steer_report import (
    MemoryFound,
    joined,
    memory_parts,
    memory_tables,
    memory_title,
    run_memory,
    toml_of,
)
from pythia_profile.labs.steer.steer_settings import Generation, SteerSettings
from pythia_profile.labs.steer.steer_study import suite_tasks
from pythia_profile.labs.steer.steer_sweep import sweep
from pythia_profile.labs.steer.steer_texts import Labelled
from pythia_profile.labs.steer.steer_train import train_steer
from pythia_profile.mini.build import mini_suite
from pythia_profile.scoring.run import score
from pythia_profile.scoring.settings import RunOptions
from pythia_profile.settings import Settings
from pythia_profile.store import atomic_write, write_json
from pythia_profile.suites.draw_settings import Sampling
from pythia_profile.suites.sampling import sample_rows
from pythia_profile.training.shapes import ModelShape

__all__ = ["DemoSettings", "StyleFound", "demo_settings", "run_demo", "style_facts"]


class DemoSettings(Settings):
    """What the demo trains and asks."""

    language: TwoStyles = Field(TwoStyles(), description="The language of two styles.")
    shapes: tuple[ModelShape, ...] = Field(
        (ModelShape(width=32, layers=2), ModelShape(width=48, layers=2)),
        min_length=2,
        max_length=2,
        description="models of the language: the steer's own, and the one that it moves to",
    )
    steer: SteerSettings = Field(
        SteerSettings(steps=200, scale=0.5), description="How the style's steer is trained."
    )
    labelled: int = Field(2048, ge=64, description="labelled rows that train it")
    values: tuple[float, ...] = Field(
        (-2.0, -1.0, -0.5, 0.0, 0.5, 1.0, 2.0), min_length=3, description="ε of the sweep"
    )
    generation: Generation = Field(
        Generation(prompt=4, tokens=20, top_p=1.0), description="How text is continued."
    )
    memory: MemorySettings = Field(MemorySettings(), description="How the memory steer is sought.")
    planted_permutations: int = Field(
        9, ge=1, description="steers of permuted labels, of the planted rows; these are few"
    )
    sizes: tuple[str, ...] = Field(("xs", "s"), description="of the mini suite; none leaves it out")
    checkpoints: tuple[int, ...] = Field(
        (0, 128, 256, 384, 512), min_length=2, description="of the mini suite, that are scored"
    )
    rows_per_cohort: int = Field(256, ge=1, description="rows of the mini suite that were read")
    never_treated: int = Field(1024, ge=8, description="rows that were never read")


def demo_settings(seed: int, sizes: Sequence[str]) -> DemoSettings:
    """Return the demo's settings for one seed of everything."""
    return DemoSettings(
        language=TwoStyles(seed=seed),
        steer=SteerSettings(steps=200, scale=0.5, seed=seed),
        generation=Generation(prompt=4, tokens=20, top_p=1.0, seed=seed),
        memory=MemorySettings(seed=seed),
        sizes=tuple(sizes),
    )


@dataclass(frozen=True, slots=True)
class StyleFound:
    """What the style's steer gave.

    Attributes
    ----------
    facts : plain numbers; sweep : rates of both models; marked : texts with strengths and marks.
    tokens : at the ends of the first directions.
    """

    facts: dict[str, Any]
    sweep: pl.DataFrame
    marked: list[tuple[float, str]]
    tokens: pl.DataFrame


def run_demo(
    settings: DemoSettings, out: Path, *, workers: int | None = None
) -> tuple[StyleFound, MemoryFound, Path]:
    """Train what is missing, ask everything, write tables, figures and the page.

    Parameters
    ----------
    out : folder; steers are in it as `style.safetensors` and `style-moved.safetensors`.
    """
    language = settings.language
    models = speakers(out / "speakers", language, settings.shapes, workers=workers)
    style = _style(settings, models, out)
    corpus = two_styles_corpus(language)
    planted = pl.DataFrame(
        {
            "row_id": np.arange(len(corpus.read)),
            "tokens": corpus.candidates.tolist(),
            "inside": corpus.read,
        }
    )
    path = write_task(out / "rows" / "planted.parquet", planted)
    tasks = [
        MemoryTask(shape.name, folder, "planted", path, settings.planted_permutations)
        for shape, folder in zip(settings.shapes, models, strict=True)
    ]
    decodes = {shape.name: Vocabulary().decode for shape in settings.shapes}
    if not settings.sizes:
        memory = run_memory(tasks, settings.memory, out, decodes, workers=workers)
    else:
        suite = mini_suite(settings.sizes, seed=language.seed, workers=workers)
        steps = list(settings.checkpoints)
        drawn = Sampling(
            rows_per_cohort=settings.rows_per_cohort,
            batches_per_cohort=0,
            never_treated=settings.never_treated,
        )
        rows = sample_rows(suite, drawn, checkpoints=steps)
        options = RunOptions(workers=workers)
        scores = score(
            suite, rows, settings.sizes, steps, options=options, folder=out / "mini-scores"
        )
        words = Vocabulary.of(suite.root)
        decodes |= dict.fromkeys(settings.sizes, words.decode)
        with suite_tasks(suite, rows, scores, out / "rows") as asked:
            memory = run_memory([*tasks, *asked], settings.memory, out, decodes, workers=workers)
    with atomic_write(out / "sweep.parquet") as file:
        style.sweep.write_parquet(file)
    write_json(style.facts, out / "style.json")
    return style, memory, _page(settings, style, memory, out)


def _style(settings: DemoSettings, models: Sequence[Path], out: Path) -> StyleFound:
    """Train, read and move the steer of the two styles."""
    language = settings.language
    small, large = (load_model(folder) for folder in models)
    data = two_styles(language, settings.labelled, seed=2)
    fresh = two_styles(language, 512, seed=3)
    steer = train_steer(small, data, settings.steer).steer
    steer.save(out / "style.safetensors")
    moved = moved_steer(steer, small, large)
    moved.save(out / "style-moved.safetensors")
    named = (settings.shapes[0].name, f"{settings.shapes[1].name}, moved")
    tables = []
    for name, model, one in zip(named, (small, large), (steer, moved), strict=True):
        found, _ = sweep(
            model, one, fresh.texts, settings.values, language.lexicons, settings.generation
        )
        tables.append(found.select(pl.lit(name).alias("model"), pl.all()))
    facts = style_facts(small, steer, fresh, language)
    shift = [_shift(table) for table in tables]
    facts |= {"shift": shift[0], "moved_shift": shift[1], "kept": shift[1] / shift[0]}
    facts |= {"r2": moved.facts["r2"], "monotone": all(_monotone(table) for table in tables)}
    marked = read_texts_by(small, steer, fresh.texts[:4], _lettered)
    tokens = read_direction_tokens(small, steer, _lettered, 3, LEXICON)
    return StyleFound(facts, pl.concat(tables), marked, tokens)


def _lettered(ids: Sequence[int]) -> str:
    """Write tokens of the two lexicons as A0 to A7 and B0 to B7, others by their number."""
    return "".join(
        f"{'AB'[one // LEXICON]}{one % LEXICON} " if one < 2 * LEXICON else f"{one} " for one in ids
    )


def style_facts(
    model: PreTrainedModel, steer: Steer, fresh: Labelled, language: TwoStyles
) -> dict[str, Any]:
    """Compare what a steer finds with what the language is.

    Returns
    -------
    `right_hits`, `left_hits`: of both lexicons, how many of their tokens stand at the end of the
    first right and left direction. `keyword_auc`: of token evidence for each lexicon, with
    interval. `signs`: share of texts whose inferred strength has the sign of their label.
    """
    embeddings = model.get_output_embeddings().weight.detach().numpy()  # type: ignore[no-untyped-call]
    hits: dict[str, Any] = {}
    for side in ("right", "left"):
        ends = directions(steer).tokens(embeddings, 0, LEXICON, side=side)
        pairs = zip(ends, language.lexicons.values(), strict=True)
        hits[f"{side}_hits"] = [len({*end.tolist()} & {*lexicon}) for end, lexicon in pairs]
    evidence = np.concatenate(token_evidence(model, steer, fresh.texts))
    tokens = np.concatenate([text[1:] for text in fresh.texts])
    aucs = []
    for sign, lexicon in zip((1, -1), language.lexicons.values(), strict=True):
        of_lexicon = np.isin(tokens, lexicon)
        aucs.append(auc_interval(sign * evidence[of_lexicon], sign * evidence[~of_lexicon]))
    inferred = inferred_values(model, steer, fresh.texts)
    signs = float(((inferred > 0) == (fresh.labels > 0)).mean())
    return {**hits, "keyword_auc": aucs, "signs": signs}


def _rates(table: pl.DataFrame, name: str) -> list[float]:
    found = table.filter(pl.col("quantity") == f"rate {name}").sort("value")
    return [float(one) for one in found["estimate"]]


def _shift(table: pl.DataFrame) -> float:
    """Change of the first lexicon's rate from the lowest to the highest strength."""
    rates = _rates(table, "plus")
    return rates[-1] - rates[0]


def _monotone(table: pl.DataFrame) -> bool:
    plus, minus = np.diff(_rates(table, "plus")), np.diff(_rates(table, "minus"))
    return bool((plus > 0).all() and (minus < 0).all())


def _page(settings: DemoSettings, style: StyleFound, memory: MemoryFound, out: Path) -> Path:
    facts, figures = style.facts, out / "figures"
    (plus, minus), (left_plus, left_minus) = facts["right_hits"], facts["left_hits"]
    aucs = " and ".join(f"{one:.2f} ({a:.2f} to {b:.2f})" for one, a, b in facts["keyword_auc"])
    rising = "rise and fall strictly" if facts["monotone"] else "do not all rise and fall strictly"
    parts = [
        LabPart(
            "Rates of both lexicons against the strength",
            f"The rates {rising} with ε. Moved to the other width by least squares (R² "
            f"{facts['r2']:.2f}), the steer keeps {facts['kept']:.0%} of the shift. Bands are 95 % "
            "intervals over texts.",
            draw_sweep(style.sweep, figures),
        ),
        LabPart(
            "Tokens of the first direction",
            f"Of the two lexicons' {LEXICON} tokens each, {plus} and {minus} stand at the two ends "
            f"of the first right singular vector, which is the embeddings' side; {left_plus} and "
            f"{left_minus} at those of the left one.",
        ),
        LabPart(
            "Texts marked by the style's steer",
            f"A0 to A7 and B0 to B7 are the lexicons. The evidence of tokens finds them with an "
            f"AUC of {aucs}; the strength at which a text is most likely, which stands before it, "
            f"has the sign of its style for {facts['signs']:.0%} of the texts.",
            markup=marked_texts(style.marked),
        ),
        *memory_parts(memory, figures),
    ]
    return write_lab_page(
        out / "report.html",
        title=memory_title(memory),
        lead=f"A language of two styles, of which everything is known, and the mini suite. {HAN}",
        parts=parts,
        tables=[
            ("Tokens that the style's steer raises and lowers most", joined(style.tokens)),
            *memory_tables(memory),
        ],
        settings=toml_of(settings),
    )
