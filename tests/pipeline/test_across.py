"""Several studies of one suite, by the verb: from their folders to one table."""

import polars as pl
import pytest

from pythia_profile.cli.app import run
from pythia_profile.errors import StudyError
from pythia_profile.pipeline.other_seeds import across_of
from pythia_profile.study import Estimation, Study, create_study
from pythia_profile.tables import ACROSS, conform


@pytest.fixture
def studies(planted, tmp_path):
    """Three studies of a suite that is not known here, a training seed each."""
    for seed in range(3):
        folder = tmp_path / f"seed{seed}"
        rows, scores = planted(lambda *_: 0.3, sizes=("xs", "s"))
        settings = Estimation(draws=50, clusters="row")
        create_study(
            folder,
            Study(suite="mine", sizes=("xs", "s"), training_seed=seed, estimate=settings),
        )
        rows.write_parquet(folder / "rows.parquet")
        (folder / "scores").mkdir()
        moved = scores.with_columns(seed=pl.lit(seed)).drop("entropy", "mean_rank")
        moved.write_parquet(folder / "scores" / "scores.parquet")
    return [tmp_path / f"seed{seed}" for seed in range(3)]


def test_seeds_are_averaged_and_sizes_stand_under_one_band(studies, capsys):
    from pythia_profile.cli import app

    assert run(app, ["across", *map(str, studies)]) == 0

    shown = capsys.readouterr().out
    assert "seeds" in shown
    assert "overall" in shown
    table = conform(pl.read_parquet(studies[0] / "across.parquet"), ACROSS)
    means = table.filter(pl.col("over") == "seeds", pl.col("kind") == "overall")
    assert means["size"].to_list() == ["xs", "s"]
    for line in means.iter_rows(named=True):  # equal tables: equal rows, so nothing between seeds
        one = table.filter(pl.col("over") == "sizes", pl.col("kind") == "overall")
        alone = one.filter(size=line["size"], seed=0).row(0, named=True)
        assert line["att"] == pytest.approx(alone["att"], abs=1e-12)
        assert line["se"] == pytest.approx(alone["se"], rel=1e-9)


def test_studies_that_do_not_belong_together_are_refused(studies):
    with pytest.raises(StudyError, match="2 studies are of training seeds 0; expected each once"):
        across_of(studies[0], [studies[0]])
    file = studies[1] / "study.toml"
    file.write_text(file.read_text().replace('suite = "mine"', 'suite = "other"'))
    with pytest.raises(StudyError, match="got studies of mine, other; expected one suite"):
        across_of(studies[0], [studies[1]])
