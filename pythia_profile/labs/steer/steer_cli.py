"""Verbs of the lab `steer`."""

from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pythia_profile.cli.app import verb, verbs
from pythia_profile.cli.options import (
    HERE,
    AsJson,
    StudyFolder,
    Workers,
    check_out,
    numbers_of,
    parsed_settings,
    print_json,
)

if TYPE_CHECKING:
    from pythia_profile.labs.steer.steer_map import Steer
    from pythia_profile.labs.steer.steer_report import MemoryFound

app = verbs("Directions of the output embeddings that steer a model.")

SECTION = "Verbs"
Model = Annotated[Path, typer.Argument(metavar="MODEL", help="Folder of a model.")]
Steers = Annotated[
    list[str], typer.Argument(metavar="STEER[=FACTOR]...", help="Files; several add up.")
]
Tokenizer = Annotated[
    Path | None, typer.Option(help="tokenizer.json or its folder.", show_default="the model's")
]


@verb(
    SECTION,
    "lab steer train models/70m reviews.jsonl --out polite.safetensors",
    "lab steer train models/70m my/rows.parquet --column treatment_step --above 400 --set rank=16",
    group=app,
)
def train(
    model: Model,
    texts: Annotated[
        Path,
        typer.Argument(help="JSONL of text (or tokens) and label, or a table of rows (.parquet)."),
    ],
    out: Annotated[Path, typer.Option(help="Where the steer goes.")] = Path("steer.safetensors"),
    column: Annotated[str | None, typer.Option(help="Of the table, that labels its rows.")] = None,
    above: Annotated[
        float | None, typer.Option(help="Larger values of the column are 1, all others -1.")
    ] = None,
    tokenizer: Tokenizer = None,
    changes: Annotated[
        list[str] | None, typer.Option("--set", metavar="NAME=VALUE", help="Of rank, steps, …")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Train a steer on texts labelled from -1 to 1.

    Writes the steer, and beside it what all texts have in common (OUT.domain.safetensors).
    """
    from pythia_profile.labs.steer.steer_models import Vocabulary, load_model
    from pythia_profile.labs.steer.steer_settings import SteerSettings
    from pythia_profile.labs.steer.steer_texts import read_labelled_file
    from pythia_profile.labs.steer.steer_train import train_steer
    from pythia_profile.progress import track
    from pythia_profile.settings import checked

    settings = checked(SteerSettings, parsed_settings(changes or [], "--set"), "--set")
    domain_out = out.with_suffix(".domain.safetensors")
    for path in (out, domain_out):
        check_out(path, texts, model)
    loaded, words = load_model(model), Vocabulary.of(model, tokenizer)
    data = read_labelled_file(texts, words.encode, column=column, above=above)
    with track("training a steer", settings.steps, "steps") as task:
        found = train_steer(loaded, data, settings, advance=task.advance)
    found.steer.save(out)
    domain = found.domain.save(domain_out)
    first, last = found.losses[0], found.losses[-max(1, len(found.losses) // 10) :].mean()
    if as_json:
        print_json({"steer": str(out), "domain": str(domain), **found.steer.facts})
        return
    for note in found.notes:
        typer.echo(f"note: {note}")
    typer.echo(
        f"{len(data.texts):,} texts: {first:.3f} nats a token before, {last:.3f} steered by their "
        f"labels (last tenth of {settings.steps:,} updates)\nsteer: {out}\nwhat all texts share: "
        f"{domain}"
    )


@verb(
    SECTION,
    "lab steer sweep models/70m polite.safetensors --texts reviews.jsonl",
    "lab steer sweep models/70m polite.safetensors=2 polite.domain.safetensors --values 0,1,2",
    group=app,
)
def sweep(
    model: Model,
    steers: Steers,
    texts: Annotated[Path, typer.Option(help="JSONL, or text of one a line, to be continued.")],
    values: Annotated[str, typer.Option(help="Strengths of the sum, 0 is none.")] = "-2,-1,0,1,2",
    words: Annotated[
        Path | None,
        typer.Option(
            help="JSON of named lists of words or token ids, whose rates are counted.",
            show_default="the ends of the first direction",
        ),
    ] = None,
    tokenizer: Tokenizer = None,
    changes: Annotated[
        list[str] | None, typer.Option("--set", metavar="NAME=VALUE", help="Of prompt, tokens, …")
    ] = None,
    out: Annotated[Path, typer.Option(help="Table; the texts go beside it (.jsonl).")] = Path(
        "sweep.parquet"
    ),
    as_json: AsJson = False,
) -> None:
    """Generate at several strengths; rates of words with intervals.

    The loss of the texts themselves, at each strength, stands beside the rates.
    """
    import json

    from pythia_profile.labs.steer.steer_models import Vocabulary, load_model, read_words
    from pythia_profile.labs.steer.steer_read import end_tokens
    from pythia_profile.labs.steer.steer_settings import Generation
    from pythia_profile.labs.steer.steer_sweep import sweep as swept
    from pythia_profile.labs.steer.steer_texts import cut_to_context, read_texts, token_count
    from pythia_profile.settings import checked
    from pythia_profile.store import atomic_write, write_text

    settings = checked(Generation, parsed_settings(changes or [], "--set"), "--set")
    strengths = finite(values, "--values")
    for path in (out, out.with_suffix(".jsonl")):
        check_out(path, texts, model, *([words] if words else []), *steer_files(steers))
    loaded, vocabulary, steer = load_model(model), Vocabulary.of(model, tokenizer), summed(steers)
    counted = (
        read_words(words, vocabulary, token_count(loaded)) if words else end_tokens(loaded, steer)
    )
    given, notes = cut_to_context(loaded, read_texts(texts, vocabulary.encode))
    found, generated = swept(loaded, steer, given, strengths, counted, settings)
    with atomic_write(out) as file:
        found.write_parquet(file)
    lines = [
        json.dumps({"value": value, "text": vocabulary.decode(text.tolist())})
        for value, texts_ in generated.items()
        for text in texts_
    ]
    write_text("\n".join(lines) + "\n", out.with_suffix(".jsonl"))
    if as_json:
        print_json({"notes": notes, "sweep": found.to_dicts(), "table": str(out)})
        return
    for note in notes:
        typer.echo(f"note: {note}")
    for line in found.iter_rows(named=True):
        typer.echo(
            f"ε {line['value']:+g}  {line['quantity']:<12} {line['estimate']:.4f} "
            f"({line['lower']:.4f} to {line['upper']:.4f})"
        )
    typer.echo(f"table: {out}\ntexts: {out.with_suffix('.jsonl')}")


@verb(
    SECTION,
    "lab steer read models/70m polite.safetensors",
    "lab steer read models/70m polite.safetensors --texts some.jsonl --out marked.html",
    group=app,
)
def read(
    model: Model,
    steers: Steers,
    texts: Annotated[Path | None, typer.Option(help="Texts to be marked and valued.")] = None,
    dimensions: Annotated[int, typer.Option(min=1, help="Directions of the steer.")] = 3,
    tokens: Annotated[int, typer.Option(min=1, help="Of each end of a direction.")] = 20,
    tokenizer: Tokenizer = None,
    out: Annotated[Path, typer.Option(help="Page of the marked texts.")] = Path("marked.html"),
    as_json: AsJson = False,
) -> None:
    """Say which tokens a steer raises and lowers, and where texts show it.

    Of texts: the strength at which each is most likely, from -3 to 3, and its keywords as marks.
    """
    from pythia_profile.labs.steer.steer_models import Vocabulary, load_model
    from pythia_profile.labs.steer.steer_page import write_marked_page
    from pythia_profile.labs.steer.steer_read import read_direction_tokens, read_texts_by
    from pythia_profile.labs.steer.steer_texts import cut_to_context, read_texts

    if texts is not None:
        check_out(out, texts, model, *steer_files(steers))
    loaded, vocabulary, steer = load_model(model), Vocabulary.of(model, tokenizer), summed(steers)
    found = read_direction_tokens(loaded, steer, vocabulary.decode, dimensions, tokens)
    facts: dict[str, object] = {"directions": found.to_dicts()}
    if texts is not None:
        given, notes = cut_to_context(loaded, read_texts(texts, vocabulary.encode))
        marked = read_texts_by(loaded, steer, given, vocabulary.decode)
        write_marked_page(out, marked, notes)
        facts |= {"notes": notes, "values": [value for value, _ in marked], "page": str(out)}
    if as_json:
        print_json(facts)
        return
    for line in found.iter_rows(named=True):
        typer.echo(f"{line['dimension']}. singular value {line['strength']:.3g}")
        typer.echo(f"   raises {' '.join(map(repr, line['raised']))}")
        typer.echo(f"   lowers {' '.join(map(repr, line['lowered']))}")
    if texts is not None:
        listed = ", ".join(f"{value:+.2f}" for value, _ in marked[:12])
        typer.echo(f"most likely at ε = {listed}{' …' * (len(marked) > 12)}\nmarked texts: {out}")


@verb(
    SECTION,
    "lab steer transfer polite.safetensors models/70m models/160m --out polite-160m.safetensors",
    group=app,
)
def transfer(
    steer: Annotated[Path, typer.Argument(help="The steer's file.")],
    source: Annotated[Path, typer.Argument(metavar="FROM", help="Folder of its model.")],
    target: Annotated[Path, typer.Argument(metavar="TO", help="Folder of the other model.")],
    out: Annotated[Path, typer.Option(help="Where the moved steer goes.")] = Path(
        "moved.safetensors"
    ),
    states: Annotated[
        str, typer.Option(help="How states are moved: dual, or same as embeddings (the paper's).")
    ] = "dual",
    as_json: AsJson = False,
) -> None:
    """Move a steer to another size that shares the vocabulary.

    Least squares over the output embeddings of the tokens of both; one line says how well they fit.
    """
    from pythia_profile.labs.steer.steer_map import read_steer
    from pythia_profile.labs.steer.steer_models import load_model
    from pythia_profile.labs.steer.steer_move import moved_steer

    check_out(out, steer, source, target)
    found = moved_steer(read_steer(steer), load_model(source), load_model(target), states=states)
    found.save(out)
    if as_json:
        print_json({"steer": str(out), **found.facts})
    else:
        typer.echo(
            f"{found.facts['tokens']:,} tokens, R² {found.facts['r2']:.3f}: how much of the "
            f"source's embeddings the target's give\nsteer: {out}"
        )


def finite(text: str, name: str) -> list[float]:
    """Read numbers, none of them infinite."""
    numbers = numbers_of(text, name, float)
    if not all(isfinite(one) for one in numbers):
        from pythia_profile.labs.steer.steer_settings import SteerError

        raise SteerError(f"{name}: got '{text}', expected finite numbers")
    return numbers


def steer_files(named: list[str]) -> list[Path]:
    """Files of steers named FILE or FILE=FACTOR."""
    return [Path(one.rpartition("=")[0] or one) for one in named]


def summed(named: list[str]) -> "Steer":
    """Add up steers named FILE or FILE=FACTOR."""
    from functools import reduce

    from pythia_profile.labs.steer.steer_map import Steer, read_steer

    parts = []
    for one in named:
        path, equals, factor = one.rpartition("=")
        number = finite(factor, "STEER=FACTOR")[0] if equals else 1.0
        parts.append(number * read_steer(Path(path if equals else one)))
    return reduce(Steer.__add__, parts)


@verb(
    SECTION,
    "lab steer memory my-study --out my-memory",
    "lab steer memory my-study --sizes 70m,160m --set steer.rank=32 --set permutations=20",
    group=app,
)
def memory(
    study: StudyFolder = HERE,
    out: Annotated[Path, typer.Option(help="Folder of tables, figures and the page.")] = Path(
        "steer-memory"
    ),
    sizes: Annotated[
        str | None, typer.Option(help="Of the study.", show_default="all of them")
    ] = None,
    changes: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME=VALUE", help="Of permutations, steer.steps, …"),
    ] = None,
    workers: Workers = None,
    as_json: AsJson = False,
) -> None:
    """Ask whether a study's models hold memory as a direction. Exploratory.

    Steers of rows read or never read, and memorized or not, beside the loss attack and permuted
    labels; moved between sizes; and what is still given back when the direction is suppressed.
    """
    from pythia_profile.labs.steer.steer_memory import MemorySettings
    from pythia_profile.labs.steer.steer_models import Vocabulary
    from pythia_profile.labs.steer.steer_report import run_memory, write_memory_page
    from pythia_profile.labs.steer.steer_study import study_tasks
    from pythia_profile.settings import checked

    settings = checked(MemorySettings, _nested(parsed_settings(changes or [], "--set")), "--set")
    with study_tasks(study, out / "rows", sizes.split(",") if sizes else ()) as (tasks, suite):
        words = Vocabulary.of(
            suite.root / suite.tokenizer if suite.root and suite.tokenizer else out
        )
        decodes = {task.size: words.decode for task in tasks}
        found = run_memory(tasks, settings, out, decodes, workers=workers)
    page = write_memory_page(found, settings, out)
    _say_memory(found, page, as_json, {})


@verb(
    SECTION,
    "lab steer demo",
    "lab steer demo --out small --seed 1 --sizes xs",
    group=app,
)
def demo(
    out: Annotated[Path, typer.Option(help="Folder of everything.")] = Path("steer-demo"),
    seed: Annotated[int, typer.Option(min=0, help="Of language, suite and steers.")] = 0,
    sizes: Annotated[str, typer.Option(help="Of the mini suite; an empty word for none.")] = "xs,s",
    workers: Workers = None,
    as_json: AsJson = False,
) -> None:
    """Steer a language of two styles, and look for memory in it and in the mini suite.

    Some minutes; the same command goes on where it was stopped.
    """
    from pythia_profile.labs.steer.steer_demo import demo_settings, run_demo

    chosen = [size for size in sizes.split(",") if size]
    style, found, page = run_demo(demo_settings(seed, chosen), out, workers=workers)
    if not as_json:
        facts = style.facts
        typer.echo(
            f"two styles: rates {'' if facts['monotone'] else 'not '}strictly monotone in ε; "
            f"{facts['right_hits'][0]} and {facts['right_hits'][1]} of 8 lexicon tokens on the "
            f"right direction, {facts['left_hits'][0]} and {facts['left_hits'][1]} on the left; "
            f"keyword AUC {facts['keyword_auc'][0][0]:.2f} and {facts['keyword_auc'][1][0]:.2f}; "
            f"{facts['kept']:.0%} of the shift kept by the other size"
        )
    _say_memory(found, page, as_json, {"style": style.facts})


def _say_memory(found: "MemoryFound", page: Path, as_json: bool, facts: dict[str, object]) -> None:
    from pythia_profile.labs.steer.steer_report import EXPLORATORY, memory_sentences

    if as_json:
        tables = {"memory": found.summary.to_dicts(), "transfers": found.transfers.to_dicts()}
        print_json({**facts, **tables, "report": str(page)})
        return
    for line in (EXPLORATORY, *memory_sentences(found)):
        typer.echo(line)
    typer.echo(f"report: {page}")


def _nested(flat: dict[str, object]) -> dict[str, object]:
    """Put values named SECTION.NAME into their sections."""
    found: dict[str, Any] = {}
    for name, value in flat.items():
        section, dot, own = name.rpartition(".")
        (found.setdefault(section, {}) if dot else found)[own] = value
    return found
