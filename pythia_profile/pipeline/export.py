"""A study as a data set that others can use: tidy tables, a data card, metadata for machines.

    data/*.parquet     every table of the study; scores in one, rows without their tokens
    README.md          data card, with the header that dataset hubs read
    croissant.json     Croissant 1.0 with the responsible-AI fields
    study.toml   provenance.json     settings; what was pinned: commits, hashes, versions

Token ids are text in another writing, often personal or under copyright: they are exported only
where that is asked for.
"""

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl
from jinja2 import Environment, PackageLoader, StrictUndefined

from pythia_profile.errors import StudyError, as_path
from pythia_profile.pipeline.column_words import COLUMNS
from pythia_profile.pipeline.inputs import any_scores, study_scores
from pythia_profile.redaction import redact
from pythia_profile.store import file_sha256, make_folder, read_table, write_json, write_text
from pythia_profile.study import Study, open_study, read_lock
from pythia_profile.tables import TABLES

__all__ = ["ExportOptions", "export_study"]

_CONTEXT = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "citeAs": "cr:citeAs",
    "column": "cr:column",
    "conformsTo": "dct:conformsTo",
    "cr": "http://mlcommons.org/croissant/",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "dct": "http://purl.org/dc/terms/",
    "equivalentProperty": "cr:equivalentProperty",
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "extract": "cr:extract",
    "field": "cr:field",
    "fileObject": "cr:fileObject",
    "fileProperty": "cr:fileProperty",
    "fileSet": "cr:fileSet",
    "format": "cr:format",
    "includes": "cr:includes",
    "isArray": "cr:isArray",
    "arrayShape": "cr:arrayShape",
    "isLiveDataset": "cr:isLiveDataset",
    "jsonPath": "cr:jsonPath",
    "key": "cr:key",
    "md5": "cr:md5",
    "parentField": "cr:parentField",
    "path": "cr:path",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "recordSet": "cr:recordSet",
    "references": "cr:references",
    "regex": "cr:regex",
    "repeated": "cr:repeated",
    "replace": "cr:replace",
    "samplingRate": "cr:samplingRate",
    "sc": "https://schema.org/",
    "separator": "cr:separator",
    "source": "cr:source",
    "subField": "cr:subField",
    "transform": "cr:transform",
}
"""Of Croissant 1.0, as its specification gives it (docs.mlcommons.org/croissant, appendix 1)."""

_METHOD = "Lesci et al., Causal Estimation of Memorisation Profiles, ACL 2024, arXiv:2406.04327"
_RESPONSIBLE_AI = {
    "rai:dataCollection": "Rows of a language model's training data, drawn at random within their "
    "treatment cohorts, and rows that the run never read, scored at its checkpoints.",
    "rai:dataUseCases": "Studies of what language models remember of their training data, and of "
    "estimators of it. Not for telling whether a given person's text was trained on.",
    "rai:dataLimitations": "Effects hold for the rows, checkpoints and outcomes of this study, if "
    "trends were parallel for read and unread rows; the study's report tests what can be tested.",
    "rai:dataBiases": "Rows share the biases of the training data; never-treated rows stand for "
    "treated ones only as far as the order was random.",
    "rai:personalSensitiveInformation": "Scores and row numbers only, unless token ids were "
    "exported: these are text of the training data, which can be personal or under copyright.",
    "rai:dataAnnotationProtocol": "None: all values are computed.",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportOptions:
    """What of a study is exported, and under which terms.

    Attributes
    ----------
    license : SPDX name or address of the terms for the tables, which only their owner can choose.
    name : of the data set; the name of the study's folder by default.
    tokens : whether the token ids of the rows are part of it.
    """

    license: str
    name: str = ""
    tokens: bool = False


def export_study(folder: Path | str, out: Path | str, options: ExportOptions) -> list[Path]:
    """Write a study's tables, data card and metadata to a new folder, whole or not at all.

    Returns
    -------
    The files, relative to `out`.

    Raises
    ------
    StudyError
        The folder holds no study or no table, `out` exists, or no license is named.
    """
    folder, out = as_path(folder), as_path(out, "out")
    if not options.license.strip():
        raise StudyError(
            "license: missing, expected the terms under which the data set may be used, as an SPDX "
            "name (CC-BY-4.0) or an address; nobody but you can choose them"
        )
    study = open_study(folder)
    if out.exists():
        raise StudyError(f"'{out}' exists; name a folder that does not")
    unfinished = out.with_name(f".{out.name}.part")
    shutil.rmtree(unfinished, ignore_errors=True)
    make_folder(unfinished / "data")
    try:
        tables = _write_tables(folder, study, unfinished / "data", options)
        if not tables:
            raise StudyError(f"'{folder}' holds no table yet; run `pythia-profile run {folder}`")
        facts = _facts(folder, study, options, tables)
        write_json(
            json.loads(redact(json.dumps(read_lock(folder)))), unfinished / "provenance.json"
        )
        write_text((folder / "study.toml").read_text(encoding="utf-8"), unfinished / "study.toml")
        write_json(_croissant(unfinished, facts, tables), unfinished / "croissant.json")
        write_text(_card(facts, tables), unfinished / "README.md")
        unfinished.replace(out)
    except BaseException:
        shutil.rmtree(unfinished, ignore_errors=True)
        raise
    return sorted(path.relative_to(out) for path in out.rglob("*") if path.is_file())


def _write_tables(
    folder: Path, study: Study, data: Path, options: ExportOptions
) -> dict[str, pl.DataFrame]:
    tables: dict[str, pl.DataFrame] = {}
    for contract in TABLES:
        path = folder / f"{contract.name}.parquet"
        if path.exists():
            tables[contract.name] = read_table(path, contract, "run")
    if not options.tokens:  # ids in `rows`, text in `remembered`
        tables = {name: table.drop("tokens", strict=False) for name, table in tables.items()}
    if "rows" in tables and any_scores(folder):
        tables["scores"] = study_scores(folder, study, None)
    for name, table in tables.items():
        table.write_parquet(data / f"{name}.parquet", compression="zstd", statistics=True)
    return tables


def _facts(
    folder: Path, study: Study, options: ExportOptions, tables: Mapping[str, pl.DataFrame]
) -> dict[str, Any]:
    versions = read_lock(folder).get("versions", {})
    return {
        "name": options.name or folder.resolve().name,
        "license": options.license,
        "suite": Path(study.suite).name,
        "sizes": list(study.sizes),
        "outcomes": list(study.outcomes),
        "date": datetime.now(UTC).date().isoformat(),
        "version": str(versions.get("pythia_profile", versions.get("pythia-profile", ""))),
        "tokens": options.tokens,
        "method": _METHOD,
        "counts": {name: len(table) for name, table in tables.items()},
        "columns": {
            name: [(column, _type(dtype), _words(column)) for column, dtype in table.schema.items()]
            for name, table in tables.items()
        },
        "rai": _RESPONSIBLE_AI,
    }


def _words(column: str) -> str:
    return COLUMNS.get(column, "as the documentation of pythia-profile's tables says")


def _card(facts: Mapping[str, Any], tables: Mapping[str, pl.DataFrame]) -> str:
    pages = Environment(
        loader=PackageLoader("pythia_profile.pipeline"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,  # it is Markdown
    )
    return pages.get_template("data_card.md").render(**facts, tables=list(tables))


def _croissant(
    folder: Path, facts: Mapping[str, Any], tables: Mapping[str, pl.DataFrame]
) -> dict[str, Any]:
    """Describe the tables in Croissant 1.0 with the fields of Croissant RAI 1.0."""
    files = [
        {
            "@type": "cr:FileObject",
            "@id": f"{name}.parquet",
            "name": f"{name}.parquet",
            "contentUrl": f"data/{name}.parquet",
            "encodingFormat": "application/x-parquet",
            "sha256": file_sha256(folder / "data" / f"{name}.parquet"),
        }
        for name in tables
    ]
    return {
        "@context": _CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": [
            "http://mlcommons.org/croissant/1.0",
            "http://mlcommons.org/croissant/RAI/1.0",
        ],
        "name": facts["name"],
        "description": f"What training on a row did to memory of it: effects and scores of the "
        f"sizes {', '.join(facts['sizes'])} of suite {facts['suite']}.",
        "license": facts["license"],
        "url": "https://pypi.org/project/pythia-profile/",
        "citeAs": _METHOD,
        "datePublished": facts["date"],
        "version": "1.0.0",
        **_RESPONSIBLE_AI,
        "distribution": files,
        "recordSet": [
            {
                "@type": "cr:RecordSet",
                "@id": name,
                "name": name,
                "field": [
                    {
                        "@type": "cr:Field",
                        "@id": f"{name}/{column}",
                        "name": column,
                        "description": _words(column),
                        "dataType": _type(dtype),
                        **({"repeated": True} if dtype.is_nested() else {}),
                        "source": {
                            "fileObject": {"@id": f"{name}.parquet"},
                            "extract": {"column": column},
                        },
                    }
                    for column, dtype in table.schema.items()
                ],
            }
            for name, table in tables.items()
        ],
    }


def _type(dtype: pl.DataType) -> str:
    inner = getattr(dtype, "inner", dtype) if dtype.is_nested() else dtype
    if inner.is_integer():
        return "sc:Integer"
    if inner.is_float():
        return "sc:Float"
    return "sc:Boolean" if inner == pl.Boolean() else "sc:Text"
