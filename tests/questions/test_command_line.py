"""The exit code and the output of `copier copy`."""

import subprocess
import sys
from pathlib import Path

from support.questionnaire import broker_refusal
from support.rendering import recorded


def copier(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "copier", "copy", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, encoding="utf-8", check=False, timeout=300)


def test_copy_fails_with_the_refusal_and_writes_no_file(
    questionnaire: Path, tmp_path: Path
) -> None:
    url = "redis://:S3cret@h"
    process = copier("--defaults", "-d", f"broker_url={url}", questionnaire, tmp_path / "shop")
    assert process.returncode != 0
    assert process.stderr.rstrip().endswith(broker_refusal(url))
    assert "S3cret" not in process.stdout + process.stderr
    assert not (tmp_path / "shop").exists()


def test_copy_fails_on_a_refused_choice_and_does_not_change_the_directory(
    questionnaire: Path, tmp_path: Path
) -> None:
    (tmp_path / "mine.txt").write_text("mine\n")
    process = copier(
        "--defaults", "-d", "broker_url=sqs://", "-d", "beat_scheduler=redbeat", questionnaire,
        tmp_path
    )  # fmt: skip
    assert process.returncode != 0
    assert process.stderr.splitlines()[-1].endswith(
        "Use database or file: RedBeat needs a Redis broker."
    )
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_copy_prints_what_to_do_next(questionnaire: Path, tmp_path: Path) -> None:
    process = copier("--defaults", "-d", "monitoring=[sentry]", questionnaire, tmp_path / "shop")
    assert process.returncode == 0, process.stderr
    assert f"cd {tmp_path / 'shop'} && git init && uv run just dev" in process.stderr
    assert recorded(tmp_path / "shop")["monitoring"] == ["sentry"]
