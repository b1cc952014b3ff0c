"""Writes the reference pages of the site from copier.yml and from a rendered project."""

import ast
import json
import re
import subprocess
from collections.abc import Iterator
from fnmatch import fnmatchcase
from itertools import groupby
from pathlib import Path
from typing import Any

import yaml

Configuration = dict[str, Any]

OWNERS = re.compile(r"^\| (`.+`) \| (the template's|shared|yours) \|$", re.MULTILINE)
OPTIONAL_FILES = re.compile(r"\{% if '(\w+)' not in parts %\}/(.+?)\{% endif %\}")


def table(*rows: tuple[str, ...]) -> str:
    """A Markdown table. The first row is its head."""
    lines = ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows]
    return "\n".join([lines[0], "|" + " --- |" * len(rows[0]), *lines[1:]])


def questions(configuration: Configuration, project: Path) -> str:
    """Each question of copier.yml: help, default, choices, and when it is asked."""
    answers = yaml.safe_load((project / ".copier-answers.yml").read_text(encoding="utf-8"))
    parts = [
        "# Questions",
        "This page is generated from `copier.yml`. `copier copy --defaults` asks no question and "
        "uses the defaults. `--data name=value` answers a question on the command line. "
        "[Changing an answer](../project/switching.md) explains how to change an answer in an "
        "existing project.",
    ]
    for name, question in configuration.items():
        if name.startswith("_") or question.get("when") is False:
            continue
        asks, _, consequence = question["help"].partition("\n")
        parts += [f"## `{name}`", f"**{asks.strip()}**", _one_line(consequence)]
        parts.append(f"Default: {_default(question, answers.get(name))}")
        if "when" in question:
            parts.append(f"Asked only if this is true: `{question['when'].strip('{} ')}`")
        if "choices" in question:
            parts.append(_choices(question["choices"]))
    return "\n\n".join(filter(None, parts)) + "\n"


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _default(question: dict[str, Any], answer: object) -> str:
    """The default answer, and whether it depends on other answers."""
    default = question["default"]
    if answer is None:
        return f"`{default}`"
    shown = json.dumps(answer, ensure_ascii=False).strip('"')
    if isinstance(default, str) and ("{{" in default or "{%" in default):
        return f"`{shown}`, which depends on other answers."
    return f"`{shown}`"


def _choices(choices: dict[str, Any]) -> str:
    rows = []
    for label, choice in choices.items():
        value = choice["value"] if isinstance(choice, dict) else choice
        rows.append((f"`{value}`", label))
    return table(("answer", "meaning"), *rows)


def recipes(project: Path) -> str:
    """The recipes of a project's justfile, by group, in the order of the file."""
    command = ["just", "--justfile", str(project / "justfile"), "--dump", "--dump-format", "json"]
    dump = subprocess.run(command, capture_output=True, check=True, text=True).stdout
    source = (project / "justfile").read_text(encoding="utf-8")
    found = [recipe for name, recipe in json.loads(dump)["recipes"].items() if name[0] != "_"]
    found.sort(key=lambda recipe: _place(recipe["name"], source))
    parts = [
        "# Recipes",
        "This page is generated from the `justfile` of a project. Run a recipe with "
        "`uv run just …`. `uv run just` prints the list.",
    ]
    for group, members in groupby(found, _group):
        rows = [(f"`{_call(recipe)}`", recipe["doc"] or "") for recipe in members]
        parts += [f"## {group.capitalize()}", table(("recipe", "what it does"), *rows)]
    return "\n\n".join(parts) + "\n"


def _place(name: str, source: str) -> int:
    found = re.search(rf"^{re.escape(name)}\b.*:", source, re.MULTILINE)
    return found.start() if found else len(source)


def _group(recipe: dict[str, Any]) -> str:
    groups = [attribute["group"] for attribute in recipe["attributes"] if "group" in attribute]
    return str(groups[0]) if groups else "others"


def _call(recipe: dict[str, Any]) -> str:
    words = [f"just {recipe['name']}"]
    for parameter in recipe["parameters"]:
        optional = parameter["kind"] == "star" or parameter["default"] is not None
        many = "…" if parameter["kind"] in ("star", "plus") else ""
        name = f"{parameter['name'].upper()}{many}"
        words.append(f"[{name}]" if optional else name)
    return " ".join(words)


def settings(project: Path) -> str:
    """Celery's settings with their reasons, and the variables of .env.example."""
    source = (project / "config/settings/celery.py").read_text(encoding="utf-8")
    parts = [
        "# Settings",
        "The first part is `config/settings/celery.py` of a project with the default answers. "
        "It says for each setting what goes wrong without it. To change a setting, write it into "
        "`config/settings/project.py`. The second part lists the "
        "[environment variables](#environment-variables).",
    ]
    for heading, reason, code in paragraphs(source):
        parts += [f"## {heading}"] if heading else []
        parts += [reason] if reason else []
        parts += [f"```python\n{code}\n```"] if code else []
    parts += ["## Environment variables", *_variables(project)]
    return "\n\n".join(parts) + "\n"


def paragraphs(source: str) -> Iterator[tuple[str, str, str]]:
    """The parts of the file between blank lines: a heading, or a comment and the code under it.

    Imports are left out. A comment without code is a heading if it has one line. With more lines
    it introduces the next parts.
    """
    docstring = ast.get_docstring(ast.parse(source), clean=False) or ""
    for piece in re.split(r"\n\n+", source.replace(f'"""{docstring}"""', "", 1)):
        lines = piece.strip("\n").split("\n")
        comments = []
        while lines and lines[0].startswith("#"):
            comments.append(lines.pop(0).removeprefix("#").strip())
        words, code = " ".join(comments), "\n".join(lines)
        if code and not comments and not re.search(r"^\s*[A-Z_]+\b", code, re.MULTILINE):
            continue  # imports
        if not code and len(comments) == 1:
            yield words, "", ""
        elif comments or code:
            yield "", words, code


def _variables(project: Path) -> Iterator[str]:
    text = (project / ".env.example").read_text(encoding="utf-8")
    rows = re.findall(r"^# ([A-Z_]+)=(\S*) *(?:# (.*))?$", text, re.MULTILINE)
    yield (
        "Set them in the environment or in `.env`. `NAME_FILE` is the path of a file that "
        "contains the value of `NAME`. The defaults are those of the default answers."
    )
    cells = [(f"`{name}`", f"`{value}`" if value else "", words) for name, value, words in rows]
    yield table(("variable", "default", "meaning"), *cells)


def files(configuration: Configuration, project: Path) -> str:
    """Each file of a project, with its owner and the first sentence in it."""
    excluded = "\n".join(configuration["_exclude"])
    parts = [
        "# Files and owners",
        "This page is generated from a project with the default answers. An update changes the "
        "files of the template and the shared files, and merges your edits in them. The template "
        "writes your files only once. [Updates](../updates.md#who-owns-a-file) explains the "
        "owners, and lists the places for your changes.",
    ]
    found = sorted(file for file in project.rglob("*") if file.is_file())
    for folder, members in groupby(sorted(found, key=_folder), _folder):
        rows = [("file", "owner", "contents")]
        for file in members:
            name = file.relative_to(project).as_posix()
            rows.append((f"`{name}`", owner(name), purpose(file)))
        title = folder.relative_to(project).as_posix()
        parts += ["## Top-level files" if title == "." else f"## `{title}/`", table(*rows)]
    answered = [(f"`{place}`", f"`{part}`") for part, place in OPTIONAL_FILES.findall(excluded)]
    parts += ["## Files that depend on an answer", table(("path", "answer"), *answered)]
    return "\n\n".join(parts) + "\n"


def _folder(file: Path) -> Path:
    return file.parent


def owner(name: str) -> str:
    """The owner of a file, from the table in docs/updates.md."""
    page = Path(__file__).with_name("updates.md").read_text(encoding="utf-8")
    for patterns, found in OWNERS.findall(page):
        if any(fnmatchcase(name, pattern) for pattern in re.findall(r"`(.+?)`", patterns)):
            return str(found)
    return ""


def purpose(file: Path) -> str:
    """The first sentence of a file's docstring, opening comment or heading."""
    text = file.read_text(encoding="utf-8")
    if file.suffix == ".py":
        words = ast.get_docstring(ast.parse(text)) or ""
    elif file.suffix == ".md":
        words = next((line for line in text.splitlines() if line.startswith("# ")), "")[2:]
    elif file.name.endswith("ignore"):
        words = "Files of one machine"  # the comments are headings
    else:
        found = re.match(r"(?:#!.*\n|# \w+=.*\n+)?((?:# .*\n)+)", text)
        words = found[1].replace("# ", "") if found else ""
    return " ".join(re.split(r"(?<=\.)\s|\n\n", words.strip(), maxsplit=1)[0].split())
