"""The strict rules of mypy and ruff are for the template's own files, and not for the user's."""

from pathlib import Path

from support.projects import replace, run, tree
from support.rendering import render

CODE = "\n\ndef _shop(value):\n    print(value)\n"


def test_only_files_of_the_template_have_the_strict_rules(template: Path, tmp_path: Path) -> None:
    project = render(template, tmp_path / "project")
    places = ("apps/pipeline/checks", "config/settings", "tests")
    own = [file for place in places for file in (project / place).rglob("*.py")]
    own.remove(project / "config/settings/project.py")
    yours = [project / name for name in ("config/settings/project.py", "tests/test_shop.py")]
    for file in [*own, *yours]:
        with file.open("a", encoding="utf-8") as text:
            text.write(CODE)
    types = run(project, "mypy", codes=(1,))
    style = run(project, "ruff", "check", "--output-format", "concise", codes=(1,))
    for file in own:
        name = file.relative_to(project).as_posix()
        assert f"{name}:" in types, types
        assert f"{name}:" in style or name.startswith("config/"), style
    for file in yours:
        assert file.name not in types + style


def test_another_style_of_the_user_does_not_reformat_the_code_of_the_template(
    template: Path, tmp_path: Path
) -> None:
    """Otherwise each update would conflict with it."""
    project = render(template, tmp_path / "project")
    replace(
        project / "pyproject.toml",
        "line-length = 100\n",
        'line-length = 79\nformat.quote-style = "single"\n',
    )
    before = tree(project)
    run(project, "ruff", "format", ".")
    after = tree(project)
    changed = {name.partition("/")[0] for name in before if after[name] != before[name]}
    assert changed >= {"config"}
    own = ("apps/pipeline/", "tests/")
    assert [name for name in before if name.startswith(own) and after[name] != before[name]] == []
    run(project, "ruff", "check", ".")
