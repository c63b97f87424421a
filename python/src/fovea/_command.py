"""What the commands of this package have in common."""

import os
import sys
from pathlib import Path

from .errors import Error


def check_model(name):
    """Refuses a path that leads to no folder, which transformers takes for a strange name of its hub."""
    if not Path(name).is_dir() and (name.startswith((".", "/", "~")) or name.count("/") > 1):
        raise Error("not_found", f"{name}: no such folder", "give the folder of a checkpoint, or ORG/NAME")


def write(path, text):
    """Complete or not at all."""
    beside = path.with_name(path.name + f".{os.getpid()}")
    try:
        beside.write_text(text)
        beside.replace(path)
    except OSError as error:
        raise Error("io", f"cannot write {path}: {error.strerror}", "give a folder that exists and can be written") from None


def end_with(main):
    """Runs a command and ends the process: with what it returns, or with 2 and the words of its refusal."""
    try:
        sys.exit(main())
    except Error as error:
        print(f"error: {error.message}" + (f"\n  remedy: {error.remedy}" if error.remedy else ""), file=sys.stderr)
        sys.exit(2)
