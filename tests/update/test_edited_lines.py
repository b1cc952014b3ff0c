"""Edits of one line of a settings module. A change of the template beside it is no conflict."""

import ast
import subprocess
from pathlib import Path

import pytest

from support.releases import releases, unpack
from support.rendering import ROOT

NEWEST = releases()[-1]


def assignments(text: str) -> dict[str, int]:
    """The top-level assignments on one line, without comments. The values are indexes of lines."""
    lines = text.splitlines()
    parts = ((node.test if isinstance(node, ast.If) else node) for node in ast.parse(text).body)
    return {
        lines[part.lineno - 1].partition("  #")[0]: part.lineno - 1
        for part in parts
        if isinstance(part, ast.Assign | ast.AnnAssign | ast.NamedExpr)
        and part.lineno == part.end_lineno
    }


@pytest.mark.parametrize("name", ["base", "celery"])
def test_an_edited_setting_that_the_template_did_not_change_is_no_conflict(
    tmp_path: Path, name: str
) -> None:
    unpack(NEWEST, tmp_path)
    module = Path("template/config/settings") / f"{name}.py"
    old, new = tmp_path / module, ROOT / module
    lines = old.read_text(encoding="utf-8").splitlines()
    before = assignments("\n".join(lines))
    common = before.keys() & assignments(new.read_text(encoding="utf-8")).keys()
    assert len(common) > 10
    conflicts = set()
    for setting in common:
        edited = tmp_path / "edited.py"
        own = [*lines[: before[setting]], "# Ours", *lines[before[setting] + 1 :]]
        edited.write_text("\n".join(own) + "\n", encoding="utf-8")
        merge = ["git", "merge-file", "--stdout", str(edited), str(old), str(new)]
        if subprocess.run(merge, capture_output=True).returncode:
            conflicts.add(setting)
    assert conflicts == set()
