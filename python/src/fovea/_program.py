"""The program `fovea`: FOVEA_PROGRAM, else the one in PATH."""

import os
import shutil
import subprocess

from .errors import Error


def find():
    """Its path, or None."""
    return os.environ.get("FOVEA_PROGRAM") or shutil.which("fovea")


def run(*words):
    """What it prints. Its refusals become errors with its own words."""
    program = find()
    if not program:
        raise Error("not_found", "the program `fovea` is not here", "put it into PATH, or its path into FOVEA_PROGRAM")
    try:
        done = subprocess.run([program, *map(str, words)], stdin=subprocess.DEVNULL, capture_output=True, text=True)
    except OSError as error:
        raise Error("not_found", f"cannot start {program}: {error.strerror}", "check FOVEA_PROGRAM") from None
    if done.returncode != 0:
        raise Error("unsupported", f"fovea {words[0]} failed: {done.stderr.strip() or f'status {done.returncode}'}",
                    "use the program of the same version as this package")
    return done.stdout
