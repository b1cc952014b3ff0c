"""The manifests of Kubernetes and KEDA, as kustomize builds them."""

import json
import re
from pathlib import Path

import pytest
import yaml

from support.deployment_files import ANSWERS, COMPOSE, OURS, Project, distinct, services
from support.manifests import KEDA, KUBERNETES, built, keda_schema, manifests
from support.projects import run
from support.questionnaire import ENVIRONMENT
from support.rendering import ROOT, render


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
def test_every_pod_is_restricted_and_has_resource_limits(project: Project, name: str) -> None:
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
def test_the_namespace_denies_connections_by_default(project: Project) -> None:
    found = manifests(project("elsewhere"))
    (namespace,) = (each for (kind, _), each in found.items() if kind == "Namespace")
    assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
    assert found["NetworkPolicy", "nothing"]["spec"] == {
        "podSelector": {},
        "policyTypes": ["Ingress", "Egress"],
    }


@pytest.mark.live("kubectl")
@pytest.mark.parametrize("name", KUBERNETES)
def test_two_beats_run_if_they_share_a_lock(project: Project, name: str) -> None:
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
def test_prometheus_may_read_worker_and_beat_alone(project: Project) -> None:
    found = manifests(project("elsewhere"))
    port = {"name": "metrics", "containerPort": 9808}
    for name in ("celery-worker", "celery-beat"):
        template = found["Deployment", name]["spec"]["template"]
        assert template["metadata"]["annotations"]["prometheus.io/port"] == "9808"
        assert port in template["spec"]["containers"][0]["ports"]
    assert (
        port not in found["Deployment", "web"]["spec"]["template"]["spec"]["containers"][0]["ports"]
    )
    (settings,) = (each for (kind, _), each in found.items() if kind == "ConfigMap")
    assert settings["data"]["METRICS_PORT"] == "9808"
    policy = found["NetworkPolicy", "from-prometheus-to-metrics"]["spec"]
    assert policy["ingress"][0]["ports"] == [{"port": "metrics"}]
    without = {name for kind, name in manifests(project("socket")) if kind == "NetworkPolicy"}
    assert "from-prometheus-to-metrics" not in without


def test_the_readme_names_all_settings_of_a_deploy(template: Path, tmp_path: Path) -> None:
    monitoring = {"monitoring": ["opentelemetry", "sentry"], "kubernetes": True}
    project = render(template, tmp_path / "traces", **monitoring)
    readme = (project / "kubernetes/README.md").read_text()
    assert "--from-literal=SENTRY_DSN=" in readme
    assert "--from-literal=OTEL_EXPORTER_OTLP_ENDPOINT=" in readme
    assert "Write the address of your Redis in `autoscaling/worker.yaml`" in readme
    base = (project / "kubernetes/base/kustomization.yaml").read_text()
    assert "- OTEL_SERVICE_NAME=my-project\n" in base
    sqs = render(template, tmp_path / "sqs", broker_url="sqs://", kubernetes=True) / "kubernetes"
    assert "Give the pods permission for SQS" in (sqs / "README.md").read_text()
    policies = list(yaml.safe_load_all((sqs / "base/network.yaml").read_text()))
    [egress] = [each["spec"]["egress"] for each in policies if "egress" in each["spec"]]
    assert egress[-1]["ports"] == [{"port": 80}]
    assert {"ipBlock": {"cidr": "169.254.169.254/32"}} in egress[-1]["to"]


@pytest.mark.live("kubectl")
def test_the_grace_period_is_longer_than_the_soft_shutdown(project: Project) -> None:
    settings = (project("elsewhere") / "config" / "settings" / "celery.py").read_text()
    grace = re.search(r'"STOP_GRACE", (\d+)', settings)
    assert grace
    pod = manifests(project("elsewhere"))["Deployment", "celery-worker"]["spec"]["template"]["spec"]
    assert pod["terminationGracePeriodSeconds"] == int(grace[1])
    for file in COMPOSE:
        worker = services(project("elsewhere") / file)["celery-worker"]
        assert worker["stop_grace_period"] in (f"{grace[1]}s", f"${{STOP_GRACE:-{grace[1]}}}s")


@pytest.mark.live("kubectl")
def test_the_autoscaler_uses_the_user_of_the_url(project: Project) -> None:
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


@pytest.mark.parametrize(
    ("url", "database"),
    [
        ("redis://cache.example.com", "0"),
        ("redis://10.0.0.1:6379/12", "12"),
        ("rediss://cache.example.com:6379?ssl_ca_certs=/2024/ca.pem", "0"),
        ("rediss://cache.example.com:6379/3?ssl_ca_certs=/2024/ca.pem", "3"),
        ("sentinel://10.0.0.1:26379;sentinel://10.0.0.2:26379", "0"),
        ("sentinel://10.0.0.1:26379;sentinel://10.0.0.2:26379/0", "0"),
        ("sentinel://10.0.0.1:26379/4;sentinel://10.0.0.2:26379/4", "4"),
    ],
)
def test_the_autoscaler_reads_the_database_of_the_url(url: str, database: str) -> None:
    scheme = url.partition("://")[0]
    text = (ROOT / "template/kubernetes/autoscaling/worker.yaml.jinja").read_text(encoding="utf-8")
    rendered = ENVIRONMENT.from_string(text).render(
        broker_url=url,
        broker_scheme=scheme,
        broker_kind={"rediss": "redis"}.get(scheme, scheme),
        sentinel_master="mymaster",
    )
    scaled = next(yaml.safe_load_all(rendered))
    assert scaled["spec"]["triggers"][0]["metadata"]["databaseIndex"] == database
