"""Workers: as many as cores, memory and units allow; never a model that does not fit."""

import pytest

from pythia_profile.errors import RefusedError, StudyError
from pythia_profile.execute import resources as machine
from pythia_profile.execute.resources import chosen_device, memory_of, resources_for


@pytest.fixture(autouse=True)
def _machine(monkeypatch):
    monkeypatch.setattr(machine, "physical_memory", lambda: 24 * 10**9)
    monkeypatch.setattr(machine, "_gpus", lambda: 2)


@pytest.mark.parametrize(
    ("units", "cores", "workers", "processes", "threads"),
    [(100, 8, None, 8, 1), (1, 8, None, 1, 8), (100, 8, 3, 3, 2), (3, 2, 8, 3, 1)],
)
def test_cores_are_shared_by_the_units(units, cores, workers, processes, threads):
    found = resources_for(units, cores, 10**6, "cpu", workers)

    assert found.devices == ("cpu",) * processes
    assert found.threads == threads


def test_large_models_get_fewer_workers_with_more_threads_each():
    needed = memory_of([70_000_000, 2_800_000_000], "float32")  # 11.2 GB and what is beside them

    found = resources_for(154, 16, needed, "cpu", None)

    assert found.devices == ("cpu",)
    assert found.threads == 16


def test_a_model_that_does_not_fit_is_refused_before_any_work():
    with pytest.raises(RefusedError, match=r"needs 48\.\d GB .* has 24\.0 GB"):
        resources_for(154, 16, memory_of([12_000_000_000], "float32"), "cpu", None)


def test_half_precision_needs_half_the_memory():
    beside = memory_of([0], "float32")

    assert memory_of([10**9], "float32") - beside == 4 * 10**9
    assert memory_of([10**9], "bfloat16") - beside == 2 * 10**9


def test_each_gpu_has_one_worker_and_more_are_shared_evenly():
    assert resources_for(154, 16, 10**9, "cuda", None).devices == ("cuda:0", "cuda:1")
    assert resources_for(154, 16, 10**9, "cuda", 3).devices == ("cuda:0", "cuda:1", "cuda:0")


def test_a_device_that_is_not_there_is_named(monkeypatch):
    monkeypatch.setattr(machine, "_seems_to_have_a_gpu", lambda: False)

    assert chosen_device("auto") == "cpu"
    with pytest.raises(StudyError, match="no GPU here"):
        chosen_device("cuda")
    with pytest.raises(StudyError, match="got 'tpu', expected one of auto, cpu, cuda"):
        chosen_device("tpu")


def test_a_gpu_is_taken_where_there_is_one(monkeypatch):
    monkeypatch.setattr(machine, "_seems_to_have_a_gpu", lambda: True)

    assert chosen_device("auto") == "cuda"
    assert chosen_device("cpu") == "cpu"
