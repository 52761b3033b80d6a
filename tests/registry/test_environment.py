from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

import motoric
from motoric.registry.environment import (
    DIRTY,
    GIT_COMMIT,
    RECIPE_DIRTY,
    RECIPE_GIT_COMMIT,
    Environment,
    GitState,
    describe_environment,
    git_state,
)

needs_git = pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")


def git(folder: Path, *arguments: str) -> str:
    author = ["-c", "user.name=a", "-c", "user.email=a@b.c", "-c", "commit.gpgsign=false"]
    command = ["git", *author, "-C", str(folder), *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    folder = tmp_path / "checkout"
    (folder / "recipes").mkdir(parents=True)
    git(folder, "init", "-q")
    (folder / "recipes" / "a.yaml").write_text("a: 1\n")
    git(folder, "add", ".")
    git(folder, "commit", "-q", "-m", "first")
    return folder


@pytest.fixture
def _no_git(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))


@needs_git
def test_a_commit_is_found_from_a_folder_inside_and_changes_make_it_dirty(checkout: Path) -> None:
    commit = git(checkout, "rev-parse", "HEAD")
    clean = git_state(checkout / "recipes")
    assert clean == GitState(root=str(checkout), commit=commit, dirty=False)
    (checkout / "new.yaml").write_text("b: 1\n")
    changed = git_state(checkout)
    assert changed is not None
    assert (changed.commit, changed.dirty) == (commit, True)


@needs_git
def test_a_repository_named_by_the_environment_of_a_hook_is_not_asked(
    checkout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = tmp_path / "other"
    other.mkdir()
    git(other, "init", "-q")
    git(other, "commit", "-q", "--allow-empty", "-m", "other")
    commit = git(checkout, "rev-parse", "HEAD")
    monkeypatch.setenv("GIT_DIR", str(other / ".git"))
    state = git_state(checkout)
    assert state is not None
    assert state.commit == commit


def test_a_folder_in_no_checkout_has_no_state(tmp_path: Path) -> None:
    assert git_state(tmp_path) is None


@needs_git
@pytest.mark.parametrize("layout", ["branch", "packed", "detached", "worktree"])
def test_without_a_git_program_the_commit_is_read_and_changes_are_unknown(
    layout: str, checkout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit = git(checkout, "rev-parse", "HEAD")
    folder = checkout
    if layout == "packed":
        git(checkout, "pack-refs", "--all")
    elif layout == "detached":
        git(checkout, "checkout", "-q", "--detach")
    elif layout == "worktree":
        folder = tmp_path / "tree"
        git(checkout, "worktree", "add", "-q", "-b", "side", str(folder))
    monkeypatch.setenv("PATH", str(tmp_path / "nothing"))
    assert git_state(folder) == GitState(root=str(folder), commit=commit, dirty=None)


@needs_git
def test_a_repository_without_a_commit_has_no_state(tmp_path: Path) -> None:
    git(tmp_path, "init", "-q")
    assert git_state(tmp_path) is None


@pytest.mark.usefixtures("_no_git")
def test_a_broken_repository_has_no_state(tmp_path: Path) -> None:
    (tmp_path / "x" / ".git").mkdir(parents=True)
    assert git_state(tmp_path / "x") is None


def test_the_environment_names_versions_and_sorted_packages(tmp_path: Path) -> None:
    found = describe_environment(tmp_path)
    assert found.versions["motoric"] == motoric.__version__
    assert {"python", "torch", "ray"} <= set(found.versions)
    names = [item.partition("==")[0].lower() for item in found.packages]
    assert names == sorted(set(names))
    assert f"torch=={found.versions['torch']}" in found.packages
    assert found.recipe is None
    lines = found.to_text().splitlines()
    assert [line for line in lines if not line.startswith("#")] == list(found.packages)


def test_no_value_of_an_environment_variable_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_API_KEY", "mk_secret_value")
    found = describe_environment()
    assert os.environ["SOME_API_KEY"] not in found.to_text() + str(found.tags())


def test_what_is_not_known_has_no_tag() -> None:
    code = GitState(root="/code", commit="c0de", dirty=None)
    recipe = GitState(root="/mine", commit="beef", dirty=True)

    def tags(code: GitState | None, recipe: GitState | None) -> dict[str, str]:
        made = Environment(
            platform="Linux", versions={"python": "3"}, packages=(), code=code, recipe=recipe
        )
        return made.tags()

    assert tags(code, recipe) == {
        "motoric.platform": "Linux",
        "motoric.versions.python": "3",
        GIT_COMMIT: "c0de",
        RECIPE_GIT_COMMIT: "beef",
        RECIPE_DIRTY: "true",
    }
    assert not {GIT_COMMIT, DIRTY, RECIPE_GIT_COMMIT, RECIPE_DIRTY} & set(tags(None, None))
