# The commands for maintainers of the template. `uv run just` lists them.

_list:
    @just --list --unsorted

# Check style and types of the template's own code
check:
    uv run ruff check .
    uv run ruff format --check .
    uv run mypy

# Install hooks that check each commit; `just hooks run --all-files` checks all files once
hooks *arguments="install":
    @uv tool run "prek~=0.5" {{ arguments }}

# Test the questions and one project with its linters and types, in under a minute
[positional-arguments]
test-fast *arguments:
    @uv run pytest tests/questions tests/repository/test_maintaining.py "tests/generated/test_projects.py::test_just_check_of_a_project_passes" "$@"

# Run all tests except the fault tests; a test is skipped if its server or program is missing
[positional-arguments]
test *arguments:
    @uv run pytest -m "not faults" "$@"

# Test workers and Beats on real brokers and databases, for every pair of answers
[positional-arguments]
live *arguments:
    @uv run pytest tests/live "$@"

# Run the fault tests of a project with few repetitions, on Redis and on RabbitMQ
[positional-arguments]
faults *arguments:
    @uv run pytest tests/faults -m faults "$@"

# Test the containers of projects, which needs a container engine
[positional-arguments]
containers *arguments:
    @uv run pytest -m containers "$@"

# Test updates from every release, with a user's edits, and between answers
[positional-arguments]
updates *arguments:
    @uv run pytest tests/update "$@"

# Take the pictures of the status page for README.md and the documentation, which needs Chromium
pictures:
    @uv run pytest tests/browser -n 0 -k picture --write-pictures docs/pictures

# Record the first minute of a project for README.md: docs/pictures/first-minute.svg
recording:
    @uv run python docs/recording.py

# Build the documentation site in site/; a broken link is an error
docs:
    @uv run --group docs python docs/build.py

# Serve the documentation site on this machine, and rebuild it while you write
docs-serve:
    @uv run --group docs python docs/build.py serve

# Create a project with the default answers in demo/, from the last commit
demo:
    rm -rf demo
    uv run copier copy --defaults --quiet --vcs-ref HEAD "{{ justfile_directory() }}" demo

# Test, archive, commit and tag a version that is in CHANGELOG.md: `just release 0.3.0`
release version:
    #!/usr/bin/env bash
    set -euo pipefail
    fail() { echo "$1" >&2; exit 1; }
    version={{ quote(version) }}
    [[ $version =~ ^[0-9]+\.[0-9]+\.[0-9]+$ ]] || fail "Write the version as three numbers, 0.2.0 for example."
    [[ -z $(git status --porcelain) ]] || fail "Commit or stash your changes first: a release contains only commits."
    ! git rev-parse --quiet --verify "refs/tags/v$version" >/dev/null || fail "The tag v$version exists: choose a later version."
    entries=$(sed -n "/^## \[$version\] - [0-9-]*$/,/^## /p" CHANGELOG.md | grep -c '^- ') ||
        fail "CHANGELOG.md has no entries under '## [$version] - $(date +%F)': move the unreleased entries there, and commit."
    uv run pytest tests/update tests/rendering tests/generated ||
        fail "The tests fail: correct the template, then release v$version."
    sed -i.before "s/^version = .*/version = \"$version\"/" pyproject.toml
    rm pyproject.toml.before
    PYTHONPATH=tests uv run python -m support.releases "v$version"
    git add pyproject.toml tests/update/releases
    git commit --quiet --allow-empty --message "Release $version"
    git tag --annotate --message "Version $version, $entries changes" "v$version"
    echo "v$version is tagged. Publish it: git push --follow-tags"
