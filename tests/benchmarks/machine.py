"""What a figure was measured on."""

from __future__ import annotations

import os
import platform
import re
from pathlib import Path

import psutil
import torch


def describe() -> dict[str, object]:
    """Processor, what of it may be used, memory, accelerators and versions."""
    import cv2
    import PIL
    import ray

    info = Path("/proc/cpuinfo")
    text = info.read_text() if info.exists() else ""
    name = re.search(r"^model name\s*:\s*(.+)$", text, re.M)
    flags = set(re.findall(r"\b(?:avx2|avx512f|avx512_bf16|amx_bf16|amx_tile)\b", text))
    gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return {
        "processor": name.group(1) if name else platform.processor(),
        "extensions": sorted(flags),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(psutil.virtual_memory().total / 1024**3),
        "gpus": gpus,
        "load": os.getloadavg()[0],
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "ray": ray.__version__,
            "pillow": PIL.__version__,
            "opencv": cv2.__version__,
        },
    }
