"""The files around the code: image, compose, CI and Kubernetes, as data."""

import json
import re
from collections.abc import Callable, Iterator
from functools import cache
from itertools import cycle
from pathlib import Path
from typing import Any

import pytest
import yaml
from projects import COMBINATIONS, run
from rendering import ROOT, render, render_all

EVERY_MONITOR = ["flower", "prometheus", "sentry"]
ANSWERS: dict[str, dict[str, Any]] = {
    "defaults": {},
    "rabbitmq": {
        "broker_url": "amqp://rabbitmq:5672//",
        "beat_scheduler": "file",
        "monitoring": EVERY_MONITOR,
        "kubernetes": True,
        "ci": "gitlab",
    },
    "two servers": {
        "broker_url": "amqp://rabbitmq:5672//",
        "result_backend": "redis://redis:6379/1",
    },
    "elsewhere": {
        "broker_url": "rediss://shop@cache.example.com/2",
        "result_backend": "rediss://results.example.com:7000/1",
        "monitoring": EVERY_MONITOR,
        "kubernetes": True,
    },
    "sentinel": {
        "broker_url": "sentinel://one.example.com:26379;sentinel://two.example.com:26379/0",
        "result_backend": "redis",
        "beat_scheduler": "redbeat",
        "monitoring": EVERY_MONITOR,
        "kubernetes": True,
    },
    "sqs": {"broker_url": "sqs://", "monitoring": EVERY_MONITOR, "kubernetes": True},
    "socket": {
        "broker_url": "redis+socket:///run/redis/redis.sock",
        "kubernetes": True,
        "ci": "none",
    },
}
SERVERS = {
    "defaults": {"redis"},
    "rabbitmq": {"rabbitmq"},
    "two servers": {"rabbitmq", "redis"},
}
"""Which servers of tasks and results the stack ships; the other answers name some elsewhere."""

OURS = {"web", "celery-worker", "celery-beat"}
COMPOSE = ("compose.yaml", "compose.production.yaml")

Project = Callable[[str], Path]


@pytest.fixture(scope="module")
def project(template: Path, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """The project of one of the answers above, rendered once."""
    root = tmp_path_factory.mktemp("containers")

    @cache
    def rendered(name: str) -> Path:
        return render(template, root / name.replace(" ", "-"), **ANSWERS[name])

    return rendered


@pytest.fixture(scope="module")
def combinations(template: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """A project of every combination, in turn with little and with much around it."""
    around: list[dict[str, Any]] = [
        {"kubernetes": True},
        {"kubernetes": True, "monitoring": EVERY_MONITOR, "ci": "gitlab"},
    ]
    answers = [combination | more for combination, more in zip(COMBINATIONS, cycle(around))]
    return render_all(template, tmp_path_factory.mktemp("combinations"), answers)


def distinct(places: list[Path]) -> list[Path]:
    """Of files or folders that hold the same, one."""
    found: dict[tuple[str, ...], Path] = {}
    for place in places:
        files = sorted(file for file in [place, *place.rglob("*")] if file.is_file())
        found.setdefault(tuple(file.read_text() for file in files), place)
    return list(found.values())


@pytest.fixture(params=ANSWERS)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def services(file: Path) -> dict[str, dict[str, Any]]:
    loaded: dict[str, dict[str, Any]] = yaml.safe_load(file.read_text())["services"]
    return loaded


def text(command: str | list[str]) -> str:
    return command if isinstance(command, str) else " ".join(command)


# Compose


def files(combinations: list[Path], name: str) -> list[Path]:
    """The file of that name as the combinations have it, each content once."""
    return distinct([project / name for project in combinations if (project / name).exists()])


@pytest.mark.parametrize("file", COMPOSE)
def test_compose_files_fit_the_specification(combinations: list[Path], file: str) -> None:
    found = map(str, files(combinations, file))
    run(ROOT, "check-jsonschema", "--builtin-schema", "vendor.compose-spec", *found)


@pytest.mark.containers
@pytest.mark.parametrize("file", COMPOSE)
def test_compose_itself_takes_the_files(combinations: list[Path], file: str) -> None:
    asked = ("IMAGE", "SECRETS_DIR", "DJANGO_ALLOWED_HOSTS", "SENTRY_DSN", "AWS_DEFAULT_REGION")
    given: dict[str, Any] = dict.fromkeys(asked, "given")
    options = ("--profile", "monitoring", "config", "--quiet")
    for found in files(combinations, file):
        run(
            found.parent,
            *("docker", "compose", "--file", file, *options),
            **given,
        )


def test_the_stack_has_the_services_that_the_answers_need(project: Project, name: str) -> None:
    monitoring = set()
    if "monitoring" in ANSWERS[name]:
        monitoring = {"flower"} if name == "sqs" else {"flower", "celery-exporter"}
    assert services(project(name) / "compose.yaml").keys() == (
        OURS | {"migrate", "db"} | SERVERS.get(name, set()) | monitoring
    )
    assert services(project(name) / "compose.production.yaml").keys() == (
        OURS | {"migrate"} | monitoring
    )


@pytest.mark.parametrize("file", COMPOSE)
def test_worker_and_beat_are_started_as_documented(project: Project, name: str, file: str) -> None:
    found = services(project(name) / file)
    assert found["celery-worker"]["command"] == "celery -A config worker -l info"
    assert found["celery-beat"]["command"] == "celery -A config beat -l info"


@pytest.mark.parametrize("file", COMPOSE)
def test_every_service_that_stays_has_a_check_and_comes_back(
    project: Project, name: str, file: str
) -> None:
    for service, found in services(project(name) / file).items():
        if service == "migrate":
            assert "healthcheck" not in found
            assert found["restart"] == "no"
        else:
            assert found["healthcheck"]["test"], service
            assert found["restart"] == "unless-stopped", service
        assert found["mem_limit"], service


@pytest.mark.parametrize("file", COMPOSE)
def test_what_uses_the_database_waits_for_the_migrations(
    project: Project, name: str, file: str
) -> None:
    found = services(project(name) / file)
    for service in OURS:
        awaited = found[service]["depends_on"]["migrate"]
        assert awaited == {"condition": "service_completed_successfully"}


def test_one_image_is_built_once_and_shared(project: Project, name: str) -> None:
    found = services(project(name) / "compose.yaml")
    assert [service for service in found if "build" in found[service]] == ["migrate"]
    assert len({found[service]["image"] for service in OURS | {"migrate"}}) == 1


@pytest.mark.parametrize("file", COMPOSE)
def test_ports_are_published_on_loopback_and_only_those_of_pages(
    project: Project, name: str, file: str
) -> None:
    published = {
        service: found["ports"]
        for service, found in services(project(name) / file).items()
        if "ports" in found
    }
    assert published.keys() <= {"web", "flower", "celery-exporter"}
    assert published["web"] == ["127.0.0.1:${WEB_PORT:-8000}:8000"]
    assert all(port.startswith("127.0.0.1:") for ports in published.values() for port in ports)
    for service in published.keys() - {"web"}:
        assert services(project(name) / file)[service]["profiles"] == ["monitoring"]


def test_broker_and_database_stand_in_networks_that_lead_nowhere(
    project: Project, name: str
) -> None:
    found = services(project(name) / "compose.yaml")
    networks = yaml.safe_load((project(name) / "compose.yaml").read_text())["networks"]
    for service in {"db", "redis", "rabbitmq"} & found.keys():
        (network,) = found[service]["networks"]
        assert networks[network] == {"internal": True}


@pytest.mark.parametrize("file", COMPOSE)
def test_flower_does_not_start_without_a_password(project: Project, name: str, file: str) -> None:
    if flower := services(project(name) / file).get("flower"):
        script = text(flower["command"])
        assert re.search(r"\$\$\{FLOWER_BASIC_AUTH:\?[^}]+\}", script)
        assert "FLOWER_BASIC_AUTH" in flower["environment"]


def test_production_has_no_secret_of_its_own(project: Project, name: str) -> None:
    content = (project(name) / "compose.production.yaml").read_text()
    code = "\n".join(line for line in content.splitlines() if not line.startswith("#"))
    with_default = set(re.findall(r"\$\{(\w+):?-", code))
    assert with_default <= {
        "WEB_PORT",
        "FLOWER_PORT",
        "EXPORTER_PORT",
        "CELERY_WORKER_CONCURRENCY",
    }
    assert {"IMAGE", "SECRETS_DIR", "DJANGO_ALLOWED_HOSTS"} <= set(
        re.findall(r"\$\{(\w+):\?[^}]+\}", code)
    )
    found = yaml.safe_load(content)
    for secret in found["secrets"].values():
        assert re.fullmatch(r"\$\{SECRETS_DIR(:\?[^}]+)?\}/\w+", secret["file"])
    for service in found["services"].values():
        for variable, value in service["environment"].items():
            if re.search("KEY|URL|AUTH|BACKEND", variable):
                assert value is None or str(value).startswith("/run/secrets/"), variable


def test_production_containers_write_nowhere_and_may_nothing(project: Project, name: str) -> None:
    for service, found in services(project(name) / "compose.production.yaml").items():
        assert found["read_only"], service
        assert found["cap_drop"] == ["ALL"], service
        assert found["security_opt"] == ["no-new-privileges:true"], service
        assert found["logging"]["options"]["max-size"], service
        mounted = found.get("volumes", [])
        assert mounted == (
            ["beat:/app/var"]
            if service == "celery-beat" and ANSWERS[name].get("beat_scheduler") == "file"
            else []
        )


def test_the_example_sets_nothing_and_names_what_is_read(project: Project, name: str) -> None:
    lines = (project(name) / ".env.example").read_text().splitlines()
    assert all(line.startswith("#") or not line for line in lines)
    readers = [*project(name).glob("compose*.yaml"), *project(name).glob("config/**/*.py")]
    read = "\n".join(file.read_text() for file in readers)
    names = re.findall(r"^# ([A-Z_]{4,})=", "\n".join(lines), re.MULTILINE)
    assert len(names) == len(set(names)) > 10
    by_libraries = {"AWS_ENDPOINT_URL_SQS", "SSL_CERT_FILE"}
    assert {name for name in names if name not in read} == by_libraries & {*names}


@pytest.fixture
def production(project: Project, tmp_path: Path) -> dict[str, Any]:
    """Variables with which `just deploy-check` finds nothing to say about "elsewhere"."""
    key = "a-key-of-more-than-fifty-characters-0123456789-abcdefghij"
    secrets = {
        "django_secret_key": key,
        "database_url": "postgres://app:password@db.example.com:5432/app",
        "celery_broker_url": "rediss://shop:password@cache.example.com/2",
        "celery_result_backend": "rediss://:password@results.example.com:7000/1",
    }
    for name, value in secrets.items():
        (tmp_path / name).write_text(value)
        (tmp_path / name).chmod(0o400)
    return {
        "IMAGE": "registry.example.com/shop:1",
        "SECRETS_DIR": str(tmp_path),
        "DJANGO_ALLOWED_HOSTS": "shop.example.com",
        "SENTRY_DSN": "https://key@sentry.example.com/1",
    }


def test_deploy_check_finds_nothing_where_all_is_there(
    project: Project, production: dict[str, Any]
) -> None:
    report = run(project("elsewhere"), "just", "deploy-check", **production)
    assert report.strip() == "System check identified no issues (0 silenced)."


def test_deploy_check_names_all_that_is_missing_at_once(project: Project) -> None:
    report = run(project("elsewhere"), "just", "deploy-check", codes=(1,))
    for name in ("IMAGE", "SECRETS_DIR", "DJANGO_ALLOWED_HOSTS", "SENTRY_DSN"):
        assert f"Set {name} to " in report
    for secret, content in {
        "django_secret_key": "python -c",
        "database_url": "postgres://name:password@host:5432/name",
        "celery_broker_url": "the whole URL, with the password",
        "celery_result_backend": "the whole URL, with the password",
    }.items():
        assert f"Write SECRETS_DIR/{secret}: {content}" in report
    assert "FLOWER" not in report


@pytest.mark.parametrize(
    ("secret", "content", "words"),
    [
        ("django_secret_key", "", "Write {path}: python -c"),
        ("django_secret_key", "django-insecure-1", "DJANGO_SECRET_KEY is a default or short"),
        ("database_url", "postgres://db.example.com", "names no database"),
        ("celery_broker_url", "redis://:secret@cache.example.com/2", "pipeline.W001"),
        ("celery_result_backend", "redis://:secret@results.example.com/1", "pipeline.W001"),
    ],
)
def test_deploy_check_names_each_secret_that_will_not_do(
    project: Project, production: dict[str, Any], secret: str, content: str, words: str
) -> None:
    path = Path(production["SECRETS_DIR"]) / secret
    path.chmod(0o600)
    path.write_text(content)
    report = run(project("elsewhere"), "just", "deploy-check", codes=(1,), **production)
    assert words.format(path=path) in report
    assert ":secret@" not in report


def test_deploy_check_names_a_secret_that_everybody_can_read(
    project: Project, production: dict[str, Any]
) -> None:
    path = Path(production["SECRETS_DIR"]) / "database_url"
    path.chmod(0o444)
    report = run(project("elsewhere"), "just", "deploy-check", codes=(1,), **production)
    assert f"Everybody on this machine can read {path}: " in report


def test_monitoring_is_started_only_where_it_was_answered(project: Project) -> None:
    report = run(project("defaults"), "just", "monitoring", codes=(1,))
    assert "answer monitoring with flower or prometheus" in report
    for name in ("rabbitmq", "elsewhere", "sqs"):
        assert "--profile monitoring" in run(project(name), "just", "--dry-run", "monitoring")


# Image


def test_the_linter_of_dockerfiles_finds_nothing() -> None:
    run(ROOT, "hadolint", "template/Dockerfile")


def test_secrets_and_history_stay_out_of_the_image() -> None:
    ignored = (ROOT / "template" / ".dockerignore").read_text().splitlines()
    assert {".env", ".env.*", ".git", ".venv", "var"} <= set(ignored)


# CI


def test_the_pipelines_fit_their_schemas_and_are_safe(combinations: list[Path]) -> None:
    github = files(combinations, ".github")
    schemas = {
        "vendor.github-workflows": [
            workflow for each in github for workflow in each.glob("workflows/*.yml")
        ],
        "vendor.dependabot": [each / "dependabot.yml" for each in github],
        "vendor.gitlab-ci": files(combinations, ".gitlab-ci.yml"),
    }
    for schema, found in schemas.items():
        options = ["--data-transform", "gitlab-ci"] if schema == "vendor.gitlab-ci" else []
        command = ("check-jsonschema", "--builtin-schema", schema, *options)
        run(ROOT, *command, *map(str, found))
    run(ROOT, "zizmor", "--offline", "--quiet", "--persona", "pedantic", *map(str, github))


# Shell


def scripts(content: Any) -> Iterator[str]:
    """The shell scripts of a compose file, a pipeline or a manifest."""
    match content:
        case [("sh" | "bash"), "-c", str(script)]:
            yield script
        case list():
            for each in content:
                yield from scripts(each)
        case dict():
            for name, each in content.items():
                match name, each:
                    case "run", str():
                        yield each
                    case (("script" | "before_script" | "after_script"), list()):
                        yield "\n".join(each)
                    case "test", str():  # of a health check
                        yield each
                    case _:
                        yield from scripts(each)


def recipes(project: Path) -> Iterator[str]:
    """The recipes of the justfile, as a shell gets them."""
    dump = json.loads(run(project, "just", "--dump", "--dump-format", "json"))
    for name, recipe in dump["recipes"].items():
        words = ["x" for each in recipe["parameters"] if each["kind"] == "singular"]
        yield run(project, "just", "--dry-run", name, *words)


def test_shellcheck_finds_nothing_in_any_script(combinations: list[Path], tmp_path: Path) -> None:
    found = set(recipes(combinations[0]))
    for name in (*COMPOSE, ".github", ".gitlab-ci.yml", "kubernetes"):
        for place in files(combinations, name):
            for file in place.rglob("*.y*ml") if place.is_dir() else [place]:
                for content in yaml.safe_load_all(file.read_text()):
                    # Compose and GitHub fill in what is in braces before a shell sees it.
                    for script in scripts(content):
                        found.add(re.sub(r"\$\{\{.*?\}\}", "filled-in", script).replace("$$", "$"))
    assert len(found) > 30
    places = [tmp_path / f"{number}.sh" for number in range(len(found))]
    for place, script in zip(places, sorted(found), strict=True):
        place.write_text(script if script.startswith("#!") else f"#!/bin/sh\n{script}\n")
    run(ROOT, "shellcheck", "--severity", "warning", ".ci/run", *map(str, places))


@pytest.mark.parametrize(
    ("name", "kept", "left_out"),
    [
        ("defaults", ".github", ".gitlab-ci.yml"),
        ("rabbitmq", ".gitlab-ci.yml", ".github"),
        ("socket", ".env.example", ".github"),
        ("socket", ".env.example", ".gitlab-ci.yml"),
    ],
)
def test_a_project_has_the_pipeline_of_its_host_alone(
    project: Project, name: str, kept: str, left_out: str
) -> None:
    assert (project(name) / kept).exists()
    assert not (project(name) / left_out).exists()


def test_pipelines_run_what_the_justfile_offers(project: Project) -> None:
    for file in (
        project("defaults") / ".github" / "workflows" / "ci.yml",
        project("rabbitmq") / ".gitlab-ci.yml",
    ):
        assert {"uv run just check", "uv run just test"} <= set(
            re.findall(r"uv run just \w+", file.read_text())
        )


# Kubernetes


def built(folder: Path) -> dict[tuple[str, str], dict[str, Any]]:
    """What kustomize makes of the folder, by kind and name."""
    found = yaml.safe_load_all(run(folder, "kubectl", "kustomize", "."))
    return {(each["kind"], each["metadata"]["name"]): each for each in found}


@cache
def manifests(project: Path) -> dict[tuple[str, str], dict[str, Any]]:
    return built(project / "kubernetes" / "production")


KUBERNETES = [name for name, answers in ANSWERS.items() if answers.get("kubernetes")]
KEDA = {"ScaledObject": "scaledobjects", "TriggerAuthentication": "triggerauthentications"}


def closed(schema: Any) -> Any:
    """The schema, refusing the names that it does not describe: a cluster would drop them."""
    if isinstance(schema, list):
        return [closed(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    inner = {name: closed(each) for name, each in schema.items()}
    return {"additionalProperties": False} | inner if "properties" in schema else inner


def keda_schema(kind: str) -> dict[str, Any]:
    definition = (ROOT / "tests" / "data" / "keda" / f"{KEDA[kind]}.yaml").read_text()
    (version,) = yaml.safe_load(definition)["spec"]["versions"]
    schema: dict[str, Any] = closed(version["schema"]["openAPIV3Schema"])
    schema["properties"]["metadata"] = {"type": "object"}
    return schema


@pytest.mark.live("kubectl")
def test_manifests_of_every_combination_fit_kubernetes_and_keda(
    combinations: list[Path], tmp_path: Path
) -> None:
    import kubernetes_validate

    folders = distinct([project / "kubernetes" for project in combinations])
    texts = {
        json.dumps(manifest)
        for folder in folders
        for manifest in built(folder / "production").values()
    }
    triggers: dict[str, list[str]] = {kind: [] for kind in KEDA}
    for number, text in enumerate(texts):
        manifest = json.loads(text)
        if manifest["apiVersion"].startswith("keda.sh/"):
            file = tmp_path / f"{number}.json"
            file.write_text(text)
            triggers[manifest["kind"]].append(str(file))
        else:
            kubernetes_validate.validate(manifest, "1.32", strict=True)
    for kind, files in triggers.items():
        schema = tmp_path / f"{kind}.json"
        schema.write_text(json.dumps(keda_schema(kind)))
        run(ROOT, "check-jsonschema", "--schemafile", str(schema), *files)


@pytest.mark.live("kubectl")
@pytest.mark.parametrize("name", KUBERNETES)
def test_every_pod_is_restricted_and_names_its_needs(project: Project, name: str) -> None:
    found = manifests(project(name))
    workloads = [each for (kind, _), each in found.items() if kind in ("Deployment", "Job")]
    assert {each["metadata"]["name"] for each in workloads} == OURS | {"migrate"}
    for workload in workloads:
        pod = workload["spec"]["template"]["spec"]
        assert pod["securityContext"]["runAsNonRoot"]
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert not pod["automountServiceAccountToken"]
        for container in pod["containers"] + pod.get("initContainers", []):
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }
            assert container["image"].startswith("registry.example.com/")
            assert container["resources"].keys() == {"requests", "limits"}
        if workload["kind"] == "Deployment":
            probes = {"startupProbe", "livenessProbe", "readinessProbe"}
            assert probes <= pod["containers"][0].keys()


@pytest.mark.live("kubectl")
def test_the_namespace_lets_no_other_pod_in(project: Project) -> None:
    found = manifests(project("elsewhere"))
    (namespace,) = (each for (kind, _), each in found.items() if kind == "Namespace")
    assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
    assert found["NetworkPolicy", "nothing"]["spec"] == {
        "podSelector": {},
        "policyTypes": ["Ingress", "Egress"],
    }


@pytest.mark.live("kubectl")
@pytest.mark.parametrize("name", KUBERNETES)
def test_two_beats_stand_where_they_share_a_lock(project: Project, name: str) -> None:
    found = manifests(project(name))
    beat = found["Deployment", "celery-beat"]["spec"]
    runtime = next(it for it in beat["template"]["spec"]["volumes"] if it["name"] == "runtime")
    if ANSWERS[name].get("beat_scheduler") == "file":
        assert (beat["replicas"], beat["strategy"]) == (1, {"type": "Recreate"})
        assert runtime == {
            "name": "runtime",
            "persistentVolumeClaim": {"claimName": "celery-beat"},
        }
        assert ("PersistentVolumeClaim", "celery-beat") in found
    else:
        assert beat["replicas"] == 2
        assert "emptyDir" in runtime
        assert beat["template"]["spec"]["topologySpreadConstraints"]
    budgets = {name for kind, name in found if kind == "PodDisruptionBudget"}
    assert budgets == OURS if beat["replicas"] == 2 else OURS - {"celery-beat"}


@pytest.mark.live("kubectl")
def test_a_worker_is_given_longer_than_its_soft_shutdown(project: Project) -> None:
    settings = (project("elsewhere") / "config" / "settings" / "celery.py").read_text()
    grace = re.search(r'"STOP_GRACE", (\d+)', settings)
    assert grace
    pod = manifests(project("elsewhere"))["Deployment", "celery-worker"]["spec"]["template"]["spec"]
    assert pod["terminationGracePeriodSeconds"] == int(grace[1])
    for file in COMPOSE:
        worker = services(project("elsewhere") / file)["celery-worker"]
        assert worker["stop_grace_period"] == f"{grace[1]}s"


@pytest.mark.live("kubectl")
def test_the_autoscaler_signs_in_as_the_user_of_the_url(project: Project) -> None:
    for name, parameters in {
        "elsewhere": {"username": "REDIS_USERNAME", "password": "REDIS_PASSWORD"},
        "sentinel": {"password": "REDIS_PASSWORD"},
        "rabbitmq": {"host": "CELERY_BROKER_URL"},
    }.items():
        spec = manifests(project(name))["TriggerAuthentication", "broker"]["spec"]
        found = {each["parameter"]: each["key"] for each in spec["secretTargetRef"]}
        assert found == parameters


@pytest.mark.live("kubectl")
@pytest.mark.parametrize(
    ("name", "trigger"),
    [
        ("rabbitmq", {"type": "rabbitmq", "queueName": "celery"}),
        (
            "elsewhere",
            {"type": "redis", "address": "cache.example.com:6379", "databaseIndex": "2"},
        ),
        (
            "sentinel",
            {
                "type": "redis-sentinel",
                "addresses": "one.example.com:26379,two.example.com:26379",
            },
        ),
        ("sqs", {"type": "aws-sqs-queue", "queueURL": "celery"}),
        ("socket", None),
    ],
)
def test_workers_scale_by_the_queue_of_their_broker(
    project: Project, name: str, trigger: dict[str, str] | None
) -> None:
    found = manifests(project(name))
    assert (("ScaledObject", "celery-worker") in found) == (trigger is not None)
    if trigger is not None:
        (actual,) = found["ScaledObject", "celery-worker"]["spec"]["triggers"]
        assert (actual["metadata"] | {"type": actual["type"]}).items() >= trigger.items()
