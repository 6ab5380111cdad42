"""What a measurement was made on, for the line above its figures."""

import os
import platform
from pathlib import Path


def machine() -> str:
    """Processor, cores, Python, and how busy the machine was."""
    model, facts = platform.machine(), Path("/proc/cpuinfo")
    if facts.exists():
        lines = facts.read_text().splitlines()
        model = next((x.split(": ")[1] for x in lines if x.startswith("model name")), model)
    load = os.getloadavg()[0]
    return f"{model}, {os.cpu_count()} cores, Python {platform.python_version()}, load {load:.1f}"
