from pathlib import Path

import pytest
from django.core.management import CommandError, call_command
from pytest_django import Settings

from apps.pipeline.management.commands.startapp import installed, refusal

PROJECT = 'INSTALLED_APPS += ["apps.users"]\n'


@pytest.fixture
def project(tmp_path: Path, settings: Settings) -> Path:
    settings.BASE_DIR = tmp_path
    (tmp_path / "apps").mkdir()
    (tmp_path / "config/settings").mkdir(parents=True)
    (tmp_path / "config/settings/project.py").write_text(PROJECT)
    return tmp_path


@pytest.mark.parametrize("given", ["quokkas", "apps.quokkas", "apps/quokkas/"])
def test_creates_an_app_and_installs_it(project: Path, given: str) -> None:
    call_command("startapp", given)
    assert 'name = "apps.quokkas"' in (project / "apps/quokkas/apps.py").read_text()
    assert (project / "apps/quokkas/migrations/0001_initial.py").exists()
    settings = (project / "config/settings/project.py").read_text()
    assert settings == 'INSTALLED_APPS += ["apps.users", "apps.quokkas"]\n'


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("my-shop", "'my-shop' is not a valid name .* for example my_shop"),
        ("Quokkas", "for example quokkas"),
        ("2nd", "for example nd"),
        ("_shop", "for example shop"),
        ("", "Use lower-case letters, digits and _."),
        ("class", "Write class_app, for example"),
        ("admin", "django.contrib.admin is installed"),
        ("a" * 41, "at most 40 characters"),
    ],
)
def test_refuses_an_invalid_name_and_creates_nothing(
    project: Path, name: str, message: str
) -> None:
    with pytest.raises(CommandError, match=message):
        call_command("startapp", name)
    assert list((project / "apps").iterdir()) == []
    assert (project / "config/settings/project.py").read_text() == PROJECT


def test_refuses_a_name_whose_folder_exists(project: Path) -> None:
    (project / "apps/shop").mkdir()
    assert refusal("shop", project / "apps/shop") == "Choose another name: apps/shop exists."


def test_refuses_settings_that_are_not_valid_python(project: Path) -> None:
    (project / "config/settings/project.py").write_text("INSTALLED_APPS += [\n")
    with pytest.raises(CommandError, match=r"project\.py is not valid: .* in line 1"):
        call_command("startapp", "quokkas")
    assert list((project / "apps").iterdir()) == []


def test_an_error_leaves_no_files(project: Path) -> None:
    with pytest.raises(CommandError):
        call_command("startapp", "quokkas", template=str(project / "nowhere"))
    assert list((project / "apps").iterdir()) == []


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("INSTALLED_APPS += []\n", 'INSTALLED_APPS += ["new"]\n'),
        ("X = 1\n", 'X = 1\n\nINSTALLED_APPS += ["new"]\n'),
        (
            'INSTALLED_APPS = [\n    "ä",  # first\n    "b",  # last\n]\nY = [1]\n',
            'INSTALLED_APPS = [\n    "ä",  # first\n    "b", "new",  # last\n]\nY = [1]\n',
        ),
        ('INSTALLED_APPS += ["ä", "b"]\n', 'INSTALLED_APPS += ["ä", "b", "new"]\n'),
    ],
)
def test_an_app_is_added_to_the_last_list(before: str, after: str) -> None:
    assert installed(before, "new") == after
