# What the template's maintainers do; `uv run just` prints this list.

_list:
    @just --list --unsorted

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
