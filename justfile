# What the template's maintainers do; `uv run just` prints this list.

_list:
    @just --list --unsorted

# Judge the template's own code: style and types
check:
    uv run ruff check .
    uv run ruff format --check .
    uv run mypy

# In under a minute: the questions, one project and its linters and types
[positional-arguments]
test-fast *arguments:
    @uv run pytest tests/test_questions.py tests/test_maintaining.py "tests/test_render.py::test_the_projects_own_check_is_green" "$@"

# All tests but the fault rounds; what needs a missing server, program or engine is skipped
[positional-arguments]
test *arguments:
    @uv run pytest "$@"

# Real brokers, databases, workers and Beats for every two answers
[positional-arguments]
live *arguments:
    @uv run pytest tests/test_matrix.py tests/test_switching_live.py "$@"

# A short round of the generated project's fault tests, on Redis and on RabbitMQ
[positional-arguments]
faults *arguments:
    @uv run pytest -m faults "$@"

# The container stacks and images, built and run; needs a container engine
[positional-arguments]
containers *arguments:
    @uv run pytest -m containers "$@"

# Updates from every released version, with a user's edits
[positional-arguments]
updates *arguments:
    @uv run pytest tests/test_update.py tests/test_flips.py tests/test_scheduled_update.py "$@"

# Make the project of the default answers in demo/, from the last commit
demo:
    rm -rf demo
    uv run copier copy --defaults --quiet --vcs-ref HEAD "{{ justfile_directory() }}" demo

# Release a version that CHANGELOG.md tells of: `just release 0.2.0` tests, archives, commits and tags it
release version:
    #!/usr/bin/env bash
    set -euo pipefail
    fail() { echo "$1" >&2; exit 1; }
    version={{ quote(version) }}
    [[ $version =~ ^[0-9]+\.[0-9]+\.[0-9]+$ ]] || fail "Write the version as three numbers, 0.2.0 for example."
    [[ -z $(git status --porcelain) ]] || fail "Commit or stash your changes first: a release is what is committed."
    ! git rev-parse --quiet --verify "refs/tags/v$version" >/dev/null || fail "There is a v$version already: choose a later version."
    entries=$(sed -n "/^## \[$version\] - [0-9-]*$/,/^## /p" CHANGELOG.md | grep -c '^- ') ||
        fail "CHANGELOG.md says nothing under '## [$version] - $(date +%F)': move what is unreleased there, and commit."
    uv run pytest tests/test_*update.py tests/test_flips.py tests/test_render.py ||
        fail "The update tests fail: there is no v$version until they pass."
    sed -i.before "s/^version = .*/version = \"$version\"/" pyproject.toml
    rm pyproject.toml.before
    uv run python tests/releases.py "v$version"
    git add pyproject.toml tests/releases
    git commit --quiet --allow-empty --message "Release $version"
    git tag --annotate --message "Version $version, $entries changes" "v$version"
    echo "v$version is tagged. Publish it: git push --follow-tags"
