"""Builds the wheel (PEP 517): CMake makes the package, and this puts it into an archive.

Needs nothing that Python does not bring, so that it works without a network. The wheel has the
extension module for this Python and the daemon; both link the system's libprotobuf.

CLEANFORK_BUILD_DIR names a build directory where the package is made already; else it is made in
build/wheel.
"""

from __future__ import annotations

import base64
import hashlib
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import tempfile
import tomllib
import zipfile
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
Settings = dict[str, str] | None


def _version() -> str:
    found = re.search(r"project\(cleanfork VERSION ([0-9.]+)", (ROOT / "CMakeLists.txt").read_text())
    assert found is not None
    return found[1]


def _info_directory() -> str:
    return f"cleanfork-{_version()}.dist-info"


def _metadata() -> str:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return (f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {_version()}\n"
            f"Summary: {project['description']}\nLicense: {project['license']['text']}\n"
            f"Requires-Python: {project['requires-python']}\n"
            f"Description-Content-Type: text/markdown\n\n{(ROOT / project['readme']).read_text()}")


def _tag() -> str:
    python = f"cp{sys.version_info.major}{sys.version_info.minor}"
    platform = re.sub(r"[-.]", "_", sysconfig.get_platform())
    return f"{python}-{python}-{platform}"


def _wheel_file() -> str:
    return ("Wheel-Version: 1.0\nGenerator: cleanfork\nRoot-Is-Purelib: false\n"
            f"Tag: {_tag()}\n")


def _build() -> Path:
    """The directory that holds the importable package."""
    made = os.environ.get("CLEANFORK_BUILD_DIR")
    build = Path(made) if made else ROOT / "build" / "wheel"
    if not made:
        off = [f"-DCLEANFORK_{part}=OFF" for part in ("TESTS", "BENCH", "EXAMPLES", "INSTALL")]
        subprocess.run(["cmake", "-S", ROOT, "-B", build, "-G", "Ninja",
                        "-DCMAKE_BUILD_TYPE=Release", f"-DPython3_EXECUTABLE={sys.executable}",
                        *off], check=True)
        subprocess.run(["cmake", "--build", build, "--target", "python_package"], check=True)
    package = build / "python"
    if not (package / "cleanfork" / "cleanforkd").exists():
        raise SystemExit("cleanfork: CMake built no Python package; it needs pybind11 2.10 and "
                         "the headers of Python (Debian: pybind11-dev, python3-dev)")
    return package


def _files(package: Path, scratch: Path) -> Iterator[tuple[str, bytes, bool]]:
    """Name, content and whether it is a program, of each file of the package."""
    strip = shutil.which("strip")
    for path in sorted((package / "cleanfork").rglob("*")):
        if path.is_dir() or path.parent.name == "__pycache__":
            continue
        name, program = str(path.relative_to(package)), path.name == "cleanforkd"
        if strip and (program or path.suffix == ".so"):
            stripped = scratch / path.name
            shutil.copy(path, stripped)
            subprocess.run([strip, "--strip-unneeded", stripped], check=True)
            path = stripped
        yield name, path.read_bytes(), program
    info = _info_directory()
    yield f"{info}/METADATA", _metadata().encode(), False
    yield f"{info}/WHEEL", _wheel_file().encode(), False


def get_requires_for_build_wheel(config_settings: Settings = None) -> list[str]:
    return []


def get_requires_for_build_sdist(config_settings: Settings = None) -> list[str]:
    return []


def prepare_metadata_for_build_wheel(metadata_directory: str,
                                     config_settings: Settings = None) -> str:
    info = Path(metadata_directory, _info_directory())
    info.mkdir()
    (info / "METADATA").write_text(_metadata())
    (info / "WHEEL").write_text(_wheel_file())
    return info.name


def build_wheel(wheel_directory: str, config_settings: Settings = None,
                metadata_directory: str | None = None) -> str:
    name = f"cleanfork-{_version()}-{_tag()}.whl"
    record = f"{_info_directory()}/RECORD"
    lines = []
    package = _build()
    with tempfile.TemporaryDirectory() as scratch, \
            zipfile.ZipFile(Path(wheel_directory, name), "w", zipfile.ZIP_DEFLATED) as wheel:
        for path, content, program in _files(package, Path(scratch)):
            entry = zipfile.ZipInfo(path)
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.external_attr = (0o100755 if program else 0o100644) << 16
            wheel.writestr(entry, content)
            digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=")
            lines.append(f"{path},sha256={digest.decode()},{len(content)}\n")
        wheel.writestr(record, "".join(lines) + f"{record},,\n")
    return name


def build_sdist(sdist_directory: str, config_settings: Settings = None) -> str:
    base = f"cleanfork-{_version()}"
    with tarfile.open(Path(sdist_directory, f"{base}.tar.gz"), "w:gz") as archive:
        names = subprocess.run(["git", "-C", ROOT, "ls-files", "-z"], check=True,
                               capture_output=True).stdout.decode().split("\0")
        for name in filter(None, names):
            if (ROOT / name).exists():
                archive.add(ROOT / name, f"{base}/{name}", recursive=False)
    return f"{base}.tar.gz"
