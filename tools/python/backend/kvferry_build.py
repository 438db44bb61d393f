# SPDX-License-Identifier: Apache-2.0
"""Builds the wheel (PEP 517): the package, libkvferry.so, and the UCX that it was linked with.

KVFERRY_BUILD names a build folder that has the library already; else `tools/dev build kvferry_c` makes it.
There is no compiled code per Python version: one wheel serves all Pythons of a platform.
"""

import base64
import hashlib
import os
import re
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import Dict, Iterator, List, Optional, Tuple

HERE = Path(__file__).resolve().parent.parent
SOURCE = HERE.parent.parent
# What the system always has; everything else that the library needs goes along.
SYSTEM = re.compile(r"(ld-linux.*|linux-vdso|lib(c|m|dl|rt|pthread|gcc_s))\.so")


def _build_folder() -> Path:
    build = os.environ.get("KVFERRY_BUILD")
    if build is None:
        subprocess.run(
            [str(SOURCE / "tools/dev"), "build", "kvferry_c"], check=True, stdout=sys.stderr
        )
        build = str(SOURCE / "build")
    return Path(build)


def _installed_library(build: Path) -> bytes:
    """As it is when it is installed: its rpath is where it lies, not where it was built."""
    with tempfile.TemporaryDirectory() as prefix:
        subprocess.run(
            ["cmake", "--install", str(build), "--component", "c_api", "--prefix", prefix],
            check=True,
            stdout=sys.stderr,
        )
        return next(Path(prefix).rglob("libkvferry.so.1")).read_bytes()


def _needs(library: Path) -> Dict[str, Path]:
    """Shared libraries that it needs, by name, without those of the system."""
    listed = subprocess.run(
        ["ldd", str(library)], check=True, capture_output=True, text=True
    ).stdout
    found = dict(re.findall(r"(\S+) => (/\S+)", listed))
    return {name: Path(place) for name, place in found.items() if not SYSTEM.match(name)}


def _modules(ucs: Path, carried: Dict[str, Path]) -> Iterator[Path]:
    """Transports that UCX loads by itself, as far as their libraries go along: not those of RDMA, which
    must fit the machine's drivers (KVFERRY_UCX)."""
    for module in sorted(ucs.parent.glob("ucx/lib*.so.0")):
        if set(_needs(module)) <= set(carried):
            yield module


def _files() -> List[Tuple[str, bytes]]:
    build = _build_folder()
    carried = _needs(build / "lib" / "libkvferry.so.1")
    files = [
        (f"kvferry/{path.relative_to(HERE / 'kvferry')}", path.read_bytes())
        for path in sorted((HERE / "kvferry").rglob("*"))
        if path.suffix in (".py", ".typed")
    ]
    files.append(("kvferry/lib/libkvferry.so.1", _installed_library(build)))
    files += [
        (f"kvferry/lib/{name}", place.read_bytes()) for name, place in sorted(carried.items())
    ]
    ucs = next((place for name, place in carried.items() if name.startswith("libucs.so")), None)
    if ucs is not None:
        for module in _modules(ucs.resolve(), carried):
            name = module.name[: -len(".0")]  # UCX looks for libuct_cma.so
            files.append((f"kvferry/lib/ucx/{name}", module.read_bytes()))
    return files


def _platform(files: List[Tuple[str, bytes]]) -> str:
    """Of the oldest glibc that has what the libraries ask for."""
    asked = {
        (int(major), int(minor))
        for name, content in files
        if "/lib/" in name
        for major, minor in re.findall(rb"\0GLIBC_(\d+)\.(\d+)", content)
    }
    major, minor = max(asked)
    return f"manylinux_{major}_{minor}_{os.uname().machine}"


def _version() -> str:
    text = (SOURCE / "CMakeLists.txt").read_text()
    return re.search(r"project\(kvferry VERSION ([\d.]+)", text).group(1)  # type: ignore[union-attr]


# Where engines look for what is installed beside them.
ENTRY_POINTS = """[sglang.srt.plugins]
kvferry = kvferry.sglang.plugin:register
"""


def _metadata() -> str:
    return "".join(
        f"{line}\n"
        for line in (
            "Metadata-Version: 2.1",
            "Name: kvferry",
            f"Version: {_version()}",
            "Summary: Moves LLM KV caches between processes",
            "License: Apache-2.0",
            "Requires-Python: >=3.9",
        )
    )


def build_wheel(
    wheel_directory: str,
    config_settings: Optional[Dict[str, str]] = None,
    metadata_directory: Optional[str] = None,
) -> str:
    files = _files()
    tag = f"py3-none-{_platform(files)}"
    info = f"kvferry-{_version()}.dist-info"
    files += [
        (f"{info}/METADATA", _metadata().encode()),
        (f"{info}/entry_points.txt", ENTRY_POINTS.encode()),
        (
            f"{info}/WHEEL",
            (
                "Wheel-Version: 1.0\nGenerator: kvferry\nRoot-Is-Purelib: false\n" f"Tag: {tag}\n"
            ).encode(),
        ),
        (f"{info}/licenses/LICENSE", (SOURCE / "LICENSE").read_bytes()),
    ]
    record = ""
    for name, content in files:
        digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
        record += f"{name},sha256={digest},{len(content)}\n"
    files.append((f"{info}/RECORD", f"{record}{info}/RECORD,,\n".encode()))
    wheel = f"kvferry-{_version()}-{tag}.whl"
    with zipfile.ZipFile(Path(wheel_directory, wheel), "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files:
            entry = zipfile.ZipInfo(name)
            entry.external_attr = (0o755 if ".so" in name else 0o644) << 16
            archive.writestr(entry, content, zipfile.ZIP_DEFLATED)
    return wheel


def build_sdist(sdist_directory: str, config_settings: Optional[Dict[str, str]] = None) -> str:
    raise NotImplementedError("build the wheel from the whole source: pip wheel ./tools/python")
