"""Files that are complete or absent: written under a temporary name, fsynced, renamed."""

from __future__ import annotations

import hashlib
import os
import re
import socket
import threading
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

# host and process id tell `is_left_over` whether the writer may still be alive
_TEMPORARY = re.compile(r"\..+\.(?P<host>[^.]*)\.(?P<pid>\d+)\.\d+\.part")


def write_atomically(path: Path, content: str | bytes) -> None:
    """Replace a file in one step: a reader finds the old content or the new, never a part of it.

    write_atomically(Path("run/config.json"), "{}")     # also creates the folder run/

    Raises OSError, with the path of the file, if it cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = temporary_name(path)
    try:
        with open(temporary, "wb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        # A failed write has no file name; a failed rename has the temporary one.
        error.filename, error.filename2 = str(path), None
        raise
    finally:
        temporary.unlink(missing_ok=True)
    # The rename is durable only after the folder itself is synced.
    folder = os.open(path.parent, os.O_RDONLY)
    os.fsync(folder)
    os.close(folder)


def temporary_name(path: Path) -> Path:
    """Return the name of a file until it is complete; `is_left_over` knows such names."""
    return path.with_name(f".{path.name}.{_host()}.{os.getpid()}.{threading.get_ident()}.part")


def is_left_over(path: Path) -> bool:
    """Return True if a process of this machine began this temporary file and has ended since."""
    found = _TEMPORARY.fullmatch(path.name)
    if found is None or found["host"] != _host():
        return False
    try:
        os.kill(int(found["pid"]), 0)  # signal 0 only checks that the process exists
    except ProcessLookupError:
        return True
    except (PermissionError, OverflowError):  # alive under another user, or not a process id
        pass
    return False


def hash_tensors(tensors: Mapping[str, Tensor]) -> str:
    """Return the SHA-256 (hex) of names, dtypes, shapes and values, in the order of the names.

    Tensors must be contiguous and on the CPU.
    """
    digest = hashlib.sha256()
    for name in sorted(tensors):
        digest.update(f"{name} {tensors[name].dtype} {tuple(tensors[name].shape)}".encode())
        # viewed as bytes, because numpy has no bfloat16
        digest.update(tensors[name].reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _host() -> str:
    return socket.gethostname().split(".")[0]
