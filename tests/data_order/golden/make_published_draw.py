"""Write what the published study's draw gives to `published_draw.json`.

Run as `python -m tests.data_order.golden.make_published_draw`. The draw is spelled out with
Python's own Mersenne twister; nothing of the package and no numpy is used.
"""

import hashlib
import json
from pathlib import Path

from tests.data_order.neox_reference import Twister


def treated():
    """14,300 row ids: ten rows of ten batches of every thousand, generator renewed each batch."""
    rng, drawn = Twister(1994), []
    for cohort in range(143):
        for batch in [1000 * cohort + b for b in rng.choice(1000, 10)]:
            drawn += [1024 * batch + row for row in rng.choice(1024, 10)]
            rng = Twister(rng.below(1_000_000))
    return sorted(drawn)


def main():
    """Write first and last ids, and a hash of all."""
    rows = treated()
    never = sorted(Twister(1234).choice(12_345, 2000))
    answers = {
        name: {
            "count": len(ids),
            "first": ids[:20],
            "last": ids[-5:],
            "sha256": hashlib.sha256(",".join(map(str, ids)).encode()).hexdigest(),
        }
        for name, ids in {"treated": rows, "never of 12345": never}.items()
    }
    path = Path(__file__).with_name("published_draw.json")
    path.write_text(json.dumps(answers, indent=1) + "\n")


if __name__ == "__main__":
    main()
