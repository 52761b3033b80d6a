"""What a run ran on: versions and the state of the code in git.

Out: an `Environment`, as tags and as the file `environment.txt` of a tracked run. Nothing of the
environment's variables is kept: they hold keys and passwords.
"""

from __future__ import annotations

import logging
import os
import platform
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import distributions
from pathlib import Path

import motoric

logger = logging.getLogger(__name__)

ENVIRONMENT_FILE = "environment.txt"
GIT_COMMIT = "motoric.git_commit"
DIRTY = "motoric.dirty"
RECIPE_GIT_COMMIT = "motoric.recipe_git_commit"
RECIPE_DIRTY = "motoric.recipe_dirty"
PLATFORM = "motoric.platform"
VERSIONS = "motoric.versions."

_GIT_TIMEOUT_S = 5.0
_NAMED = ("torch", "ray", "numpy", "onnxruntime", "mlflow")


@dataclass(frozen=True, slots=True, kw_only=True)
class GitState:
    """Where a checkout stands.

    `dirty` says whether anything differs from the commit, new files that git does not ignore
    included; None where that cannot be told: there is no git program, or it takes too long.
    """

    root: str
    commit: str
    dirty: bool | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Environment:
    """What a run ran on.

    `code` is the checkout that Motoric itself runs from, None where it is an installed package.
    `recipe` is the one that the recipe's folder lies in, None where that is in no checkout.
    `versions` has what shapes results most; `packages` is everything, `name==version`, sorted.
    """

    platform: str
    versions: Mapping[str, str]
    packages: tuple[str, ...]
    code: GitState | None
    recipe: GitState | None

    def tags(self) -> dict[str, str]:
        """The tags of a tracked run; what is not known is left out."""
        tags = {PLATFORM: self.platform}
        tags |= {f"{VERSIONS}{name}": version for name, version in self.versions.items()}
        for state, commit, dirty in (
            (self.code, GIT_COMMIT, DIRTY),
            (self.recipe, RECIPE_GIT_COMMIT, RECIPE_DIRTY),
        ):
            if state is not None:
                tags[commit] = state.commit
                if state.dirty is not None:
                    tags[dirty] = str(state.dirty).lower()
        return tags

    def to_text(self) -> str:
        """The content of `environment.txt`: facts as comments, then a list that pip can read."""
        facts = {"platform": self.platform, **self.versions}
        for name, state in (("code", self.code), ("recipe", self.recipe)):
            if state is not None:
                dirty = {True: ", with changes", False: "", None: ", changes unknown"}[state.dirty]
                facts[name] = f"{state.commit}{dirty}"
        lines = [f"# {name}: {value}" for name, value in facts.items()]
        return "\n".join([*lines, *self.packages]) + "\n"


def describe_environment(recipe_folder: Path | None = None) -> Environment:
    """Describe this process: one walk over installed packages, and git asked twice at most.

    Args:
        recipe_folder: Where the recipe lies.
    """
    found = _packages()
    versions = {"python": platform.python_version(), "motoric": motoric.__version__}
    versions |= {name: found[name][1] for name in _NAMED if name in found}
    # `platform/motoric/__init__.py` of a checkout; a virtual environment inside somebody's own
    # repository has no .git just there, so that its commit is never taken for Motoric's.
    root = Path(motoric.__file__).resolve().parents[2]
    return Environment(
        platform=platform.platform(),
        versions=versions,
        packages=tuple(f"{name}=={version}" for name, version in found.values()),
        code=git_state(root) if (root / ".git").exists() else None,
        recipe=None if recipe_folder is None else git_state(recipe_folder),
    )


def _packages() -> dict[str, tuple[str, str]]:
    """Name and version of each installed package by its lower-case name, sorted by that."""
    found: dict[str, tuple[str, str]] = {}
    for item in distributions():
        # Half-removed packages have no name. Of two of a name, the first on the path is imported.
        name = item.metadata["Name"]
        if name:
            found.setdefault(name.lower(), (name, item.version))
    return dict(sorted(found.items()))


def git_state(folder: Path) -> GitState | None:
    """Where the checkout stands that a folder lies in; None where it lies in none.

    Without a git program, or where git refuses (a checkout of another user), the commit is read
    from the files of the repository.
    """
    folder = folder.resolve()
    root = next((path for path in (folder, *folder.parents) if (path / ".git").exists()), None)
    if root is None:
        return None
    commit = _git(root, "rev-parse", "HEAD")
    if commit is None:
        commit = _read_commit(root)
        return None if commit is None else GitState(root=str(root), commit=commit, dirty=None)
    # Without a lock: somebody may be committing at this moment.
    changes = _git(root, "--no-optional-locks", "status", "--porcelain")
    return GitState(root=str(root), commit=commit, dirty=None if changes is None else bool(changes))


def _git(root: Path, *arguments: str) -> str | None:
    # Set inside git's hooks, these would point it at another repository.
    pointing = ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_PREFIX")
    variables = {name: value for name, value in os.environ.items() if name not in pointing}
    try:
        done = subprocess.run(
            ["git", "-C", str(root), *arguments],
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_GIT_TIMEOUT_S,
            env=variables,
            check=True,
        )
    except (OSError, subprocess.SubprocessError) as error:
        logger.info("git %s in %s gave nothing: %s", arguments[-1], root, error)
        return None
    return done.stdout.strip()


def _read_commit(root: Path) -> str | None:
    """The commit that HEAD names, by gitrepository-layout(5); None where there is none yet."""
    try:
        folder = root / ".git"
        if folder.is_file():  # a worktree or a submodule
            folder = root / folder.read_text().removeprefix("gitdir:").strip()
        head = (folder / "HEAD").read_text().strip()
        if not head.startswith("ref:"):
            return head or None
        name = head.removeprefix("ref:").strip()
        shared = folder / "commondir"
        common = folder / shared.read_text().strip() if shared.is_file() else folder
        for place in (folder, common):
            if (place / name).is_file():
                return (place / name).read_text().strip()
        packed = common / "packed-refs"
        lines = packed.read_text().splitlines() if packed.is_file() else []
        return next((line.split()[0] for line in lines if line.endswith(f" {name}")), None)
    except (OSError, UnicodeDecodeError) as error:
        logger.info("the repository at %s cannot be read: %s", root, error)
        return None
