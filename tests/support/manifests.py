"""The manifests of Kubernetes and KEDA, and the schemas of the latter."""

from functools import cache
from pathlib import Path
from typing import Any

import yaml

from support.deployment_files import ANSWERS
from support.projects import run
from support.rendering import ROOT


def built(folder: Path) -> dict[tuple[str, str], dict[str, Any]]:
    """The manifests that kustomize builds from the folder, by kind and name."""
    found = yaml.safe_load_all(run(folder, "kubectl", "kustomize", "."))
    return {(each["kind"], each["metadata"]["name"]): each for each in found}


@cache
def manifests(project: Path) -> dict[tuple[str, str], dict[str, Any]]:
    return built(project / "kubernetes" / "production")


KUBERNETES = [name for name, answers in ANSWERS.items() if answers.get("kubernetes")]
KEDA = {"ScaledObject": "scaledobjects", "TriggerAuthentication": "triggerauthentications"}


def without_unknown_names(schema: Any) -> Any:
    """The schema, changed to refuse unknown names, which a cluster would ignore."""
    if isinstance(schema, list):
        return [without_unknown_names(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    inner = {name: without_unknown_names(each) for name, each in schema.items()}
    return {"additionalProperties": False} | inner if "properties" in schema else inner


def keda_schema(kind: str) -> dict[str, Any]:
    definition = (ROOT / "tests/rendering/keda" / f"{KEDA[kind]}.yaml").read_text()
    (version,) = yaml.safe_load(definition)["spec"]["versions"]
    schema: dict[str, Any] = without_unknown_names(version["schema"]["openAPIV3Schema"])
    schema["properties"]["metadata"] = {"type": "object"}
    return schema
