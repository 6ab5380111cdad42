"""Write the first 20 values of each index map for three fixed cases to `neox_order.json`.

Run as `python -m tests.data_order.golden.make_neox_order`. Nothing of the package and no numpy is
used: the numbers come from plain loops and Python's own Mersenne twister.
"""

import json
from pathlib import Path

from tests.data_order.neox_reference import index_maps

CASES = [
    {"sizes": [7, 0, 12, 3, 1, 30, 5, 9], "seed": 1234, "samples": 20, "length": 8},
    {"sizes": [0, 0, 100, 1], "seed": 0, "samples": 25, "length": 4},
    {"sizes": list(range(40)), "seed": 4_294_967_295, "samples": 100, "length": 16},
]


def main():
    """Write the cases with their values."""
    answers = []
    for case in CASES:
        documents, starts, shuffle = index_maps(**case)
        first = {"document": documents[:20], "sample": starts[:20], "shuffle": shuffle[:20]}
        lengths = {"documents": len(documents), "available": len(shuffle)}
        answers.append({**case, **lengths, **first})
    path = Path(__file__).with_name("neox_order.json")
    path.write_text("\n".join(["[", ",\n".join(json.dumps(a) for a in answers), "]", ""]))


if __name__ == "__main__":
    main()
