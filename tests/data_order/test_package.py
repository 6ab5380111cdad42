"""The package as it is imported: light, and every public name is what it says."""

import subprocess
import sys
from importlib import import_module
from pkgutil import iter_modules
from types import ModuleType

import data_order


def test_importing_loads_neither_numbers_nor_network():
    heavy = ["numpy", "polars", "huggingface_hub", "httpx2", "tokenizers", "torch"]
    code = f"import data_order, sys; sys.exit(str([m for m in {heavy} if m in sys.modules] or ''))"

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)

    assert done.stderr.strip() == ""


def test_reading_local_rows_loads_no_network():
    code = (
        "from data_order import TokenRows, NeoxOrder, sample_rows, MegatronStore; import sys;"
        "sys.exit(str([m for m in ['huggingface_hub', 'httpx2', 'torch'] if m in sys.modules]"
        " or ''))"
    )

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)

    assert done.stderr.strip() == ""


def test_no_public_name_is_hidden_by_a_module_of_the_same_name():
    for module in iter_modules(data_order.__path__):
        import_module(f"data_order.{module.name}")

    for name in data_order.__all__:
        assert not isinstance(getattr(data_order, name), ModuleType), name
        assert name in dir(data_order)
