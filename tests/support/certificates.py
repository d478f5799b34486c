"""Certificates of servers on loopback."""

import shutil
import subprocess
from pathlib import Path

import pytest


def certify(folder: Path, name: str, ip: str, days: int = 2) -> Path:
    """Make a certificate of a name and an address that is its own authority; its key lies beside it."""
    program = shutil.which("openssl")
    if program is None:
        pytest.skip("needs the program openssl")
    file = folder / f"{name}.pem"
    subprocess.run(
        [
            *(program, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"),
            *("-keyout", f"{file}.key", "-out", str(file), "-days", str(days), "-subj", f"/CN={name}"),
            *("-addext", f"subjectAltName=IP:{ip},DNS:{name}"),
        ],
        check=True,
        capture_output=True,
    )
    return file
