"""An app from `just app` whose model or task is changed."""

import shutil
from pathlib import Path

import pytest

from support.git import git
from support.projects import commit, replace, run
from support.rendering import render

NAME = "    name = models.CharField(max_length=200)\n"
PRICE = "    price = models.DecimalField(max_digits=8, decimal_places=2)\n"


@pytest.fixture(scope="module")
def original(template: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with a new app from `just app`, for copies."""
    project = render(template, tmp_path_factory.mktemp("original") / "project")
    commit(project)
    run(project, "just", "app", "catalog")
    return project


@pytest.fixture
def app(original: Path, tmp_path: Path) -> Path:
    """The new app. Its model has an additional field without a default."""
    project = shutil.copytree(original, tmp_path / "project", symlinks=True)
    replace(project / "apps/catalog/models.py", NAME, NAME + PRICE)
    return project / "apps/catalog"


def migrations(app: Path) -> list[str]:
    return sorted(file.name for file in (app / "migrations").glob("0*.py"))


def makemigrations(app: Path, *arguments: str, code: int = 0) -> str:
    command = ("just", "manage", "makemigrations", *arguments)
    return run(app.parents[1], *command, codes=(code,))


def test_the_first_migration_follows_the_model(app: Path) -> None:
    before = (app / "migrations/0001_initial.py").read_bytes()
    assert "'price' on model 'item'" in makemigrations(app, "--check", "--no-input", code=3)
    assert (app / "migrations/0001_initial.py").read_bytes() == before
    assert "+ Create model Item" in makemigrations(app)
    assert migrations(app) == ["0001_initial.py"]
    assert "price" in (app / "migrations/0001_initial.py").read_text()
    assert "No changes" in makemigrations(app)


def test_an_update_of_the_first_migration_has_it(app: Path) -> None:
    replace(app / "models.py", "decimal_places=2)", "decimal_places=2, default=0)")
    makemigrations(app, "--update", "catalog")
    [updated] = migrations(app)
    assert updated.startswith("0001_initial")
    assert "price" in (app / "migrations" / updated).read_text()
    assert "No changes" in makemigrations(app)


def test_a_migration_on_which_another_app_depends_stays(app: Path) -> None:
    project = app.parents[1]
    users = app.parent / "users/models.py"
    field = "item = models.ForeignKey('catalog.Item', models.CASCADE, null=True)"
    users.write_text(f"from django.db import models\n{users.read_text()}\n    {field}\n")
    replace(app / "models.py", PRICE, "")
    run(project, "just", "manage", "makemigrations", "users")
    with_default = PRICE.replace("decimal_places=2)", "decimal_places=2, default=0)")
    replace(app / "models.py", NAME, NAME + with_default)
    assert "+ Add field price to item" in makemigrations(app)
    assert migrations(app) == ["0001_initial.py", "0002_item_price.py"]
    assert "No changes" in makemigrations(app)


def test_a_model_of_another_name_takes_its_place(app: Path) -> None:
    replace(app / "models.py", "decimal_places=2)", "decimal_places=2, default=0)")
    for file in {*app.rglob("*.py")} - {*app.glob("migrations/*.py")}:
        file.write_text(file.read_text().replace("Item", "Product"))
    assert "+ Create model Product" in makemigrations(app)
    assert "Item" not in (app / "migrations/0001_initial.py").read_text()
    run(app.parents[1], "pytest", "-q", "apps/catalog/tests/test_tasks.py")


@pytest.mark.parametrize("has_it", ["database", "git", "nothing to look in"])
def test_a_migration_that_somebody_may_have_stays(app: Path, has_it: str) -> None:
    project = app.parents[1]
    if has_it == "database":
        run(project, "just", "migrate")
    elif has_it == "git":
        git(project, "add", "apps/catalog")
    else:
        (project / ".git").rename(project / ".gone")
    before = (app / "migrations/0001_initial.py").read_bytes()
    makemigrations(app, "--no-input", code=3)  # as for every field without a default
    assert (app / "migrations/0001_initial.py").read_bytes() == before
    replace(app / "models.py", "decimal_places=2)", "decimal_places=2, default=0)")
    makemigrations(app)
    assert migrations(app) == ["0001_initial.py", "0002_item_price.py"]


def test_whoever_quits_has_the_migration_still(app: Path) -> None:
    users = app.parent / "users/models.py"
    users.write_text(f"{users.read_text()}\n    born = models.DateField()\n")
    replace(users, "AbstractUser\n", "AbstractUser\nfrom django.db import models\n")
    before = (app / "migrations/0001_initial.py").read_bytes()
    makemigrations(app, "--no-input", code=3)
    assert (app / "migrations/0001_initial.py").read_bytes() == before


def test_one_test_fails_if_the_task_of_a_schedule_was_deleted(
    original: Path, tmp_path: Path
) -> None:
    project = shutil.copytree(original, tmp_path / "project", symlinks=True)
    (project / "apps/catalog/tasks.py").write_text("")
    own = project / "apps/pipeline/tests"
    files = [own / f"test_{name}.py" for name in ("checks", "doctor", "failed", "forks", "logs")]
    printed = run(project, "pytest", "-q", "-n", "2", *map(str, files), "tests", codes=(1,))
    [failed] = [line for line in printed.splitlines() if line.startswith("FAILED")]
    test = "apps/pipeline/tests/test_checks.py::test_the_project_has_no_messages"
    assert failed.split(" - ")[0] == f"FAILED {test}"
    assert "No task is registered as 'apps.catalog.tasks.archive_old_items_task'" in printed
