"""The helpers of the tests: skipped tests and the copy of the template."""

import os
import subprocess
import sys
from pathlib import Path

from support.git import copy_tree, git
from support.rendering import ROOT


def test_a_test_without_its_server_is_skipped_or_fails_with_require_live(
    tmp_path: Path,
) -> None:
    (tmp_path / "pytest.ini").write_text("[pytest]\nmarkers =\n live: servers\n containers: too\n")
    (tmp_path / "test_live.py").write_text(
        "import pytest\n"
        "from support import requirements\n"
        "requirements.SERVERS['nowhere'] = 1\n"
        "@pytest.mark.live('nowhere')\n"
        "def test_live(): pass\n"
        "@pytest.mark.live('no-program')\n"
        "def test_program(): pass\n"
        "@pytest.mark.containers\n"
        "def test_containers(): pass\n"
        "@pytest.mark.skip('of old')\n"
        "def test_other(): pass\n"
    )
    command = [sys.executable, "-m", "pytest", "-rs", str(tmp_path)]
    for plugin in ("support.requirements", "no:cacheprovider", "no:django"):
        command += ["-p", plugin]
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "tests"), "PYTEST_ADDOPTS": ""}
    environment["DOCKER_HOST"] = f"unix://{tmp_path}/nothing.sock"
    runs = [
        subprocess.Popen(
            [*command, *extra],
            cwd=tmp_path,
            env=environment,
            stdout=subprocess.PIPE,
            encoding="utf-8",
        )
        for extra in ([], ["--require-live"])
    ]
    skipped, required = (run.communicate(timeout=300)[0] for run in runs)
    absent = ("nowhere on port 1", "the program no-program", "a container engine")
    for each in absent:
        assert f"missing: {each}" in skipped
        assert f"--require-live: Skipped: missing: {each}" in required
    assert "4 skipped" in skipped
    assert "1 skipped, 3 errors" in required
    assert [run.returncode for run in runs] == [0, 1]


def test_the_copy_of_the_template_has_no_ignored_files(tmp_path: Path) -> None:
    for name in (".gitignore", "kept/new.txt", "old.log", "kept/.gitignore", "kept/forced.txt"):
        path = tmp_path / "tree" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("*.log\n" if name == ".gitignore" else "forced.txt\n")
    copy_tree(tmp_path / "tree", tmp_path / "archive-copy")
    git(tmp_path / "tree", "init", "--quiet")
    git(tmp_path / "tree", "add", "--force", "kept/forced.txt")
    copy_tree(tmp_path / "tree", tmp_path / "checkout-copy")
    kept = {".gitignore", "kept/.gitignore", "kept/new.txt"}
    for name, files_kept in (("archive", kept), ("checkout", kept | {"kept/forced.txt"})):
        copied = tmp_path / f"{name}-copy"
        assert set(git(copied, "ls-files").split()) == files_kept
        assert git(copied, "status", "--porcelain") == ""
        assert git(copied, "describe", "--tags").strip() == "v0.0.1"
