"""Folders of the local platform: private, and short enough for the socket paths of Ray and HAProxy.

$MOTORIC_HOME/run/platform.json    what runs (its token beside it)
$MOTORIC_HOME/ray                  temporary files of Ray (t) and HAProxy (h), or, where that
                                   path is too long, a short private folder under /tmp
"""

from __future__ import annotations

import hashlib
import os
import secrets
import shutil
import stat
import tempfile
from pathlib import Path

from motoric.core.errors import SettingsError

# A socket path holds 107 characters. HAProxy's is `<folder>/h/<node id, 56>/a.<pid>.tmp`, the
# longest of Ray's `<folder>/t/session_<time and pid, 35>/sockets/dash_<module>`: up to 76 more.
MAX_FOLDER_LENGTH = 30


def run_folder(home: Path) -> Path:
    """The folder of the state file and the token."""
    return home / "run"


def choose_folder(home: Path) -> Path:
    """`$MOTORIC_HOME/ray`, or a short folder of this user for this home where that is too long."""
    inside = home / "ray"
    if len(os.fsencode(inside)) <= MAX_FOLDER_LENGTH:
        return inside
    digest = hashlib.sha256(os.fsencode(home)).hexdigest()[:8]
    return Path("/tmp") / f"mt-{os.getuid()}-{digest}"


def make_private(folder: Path) -> None:
    """Make a folder that only its owner can enter.

    Raises:
        SettingsError: It exists and is another user's, a link, or no folder.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid():
        raise SettingsError(f"{folder} is not a folder of yours: remove it, or set MOTORIC_HOME")
    folder.chmod(0o700)


def make_short_temp_dir() -> Path:
    """A fresh private folder with a short name, for a Ray that ends with its process."""
    return Path(tempfile.mkdtemp(prefix="mt-", dir="/tmp"))


def write_token(path: Path) -> None:
    """Write a new secret token that only its owner can read."""
    path.unlink(missing_ok=True)
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "w") as stream:
        stream.write(secrets.token_hex(32))


def remove(folder: Path) -> None:
    """Remove a folder of ours; what is gone already is no error."""
    if folder.is_dir() and not folder.is_symlink():
        shutil.rmtree(folder, ignore_errors=True)
