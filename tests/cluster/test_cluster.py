"""The cluster of the tests does what they rely on."""

from __future__ import annotations

import pytest

from tests.services.alluxio import AlluxioServer
from tests.services.kubernetes.client import Cluster, Team
from tests.services.s3server import S3Server

# What a pod shows the API server of its own cluster.
ASK = """
token=$(cat /var/run/secrets/kubernetes.io/serviceaccount/token)
ask() {
    wget --no-check-certificate -qO- -S --header "Authorization: Bearer $token" "https://kubernetes.default.svc$1" 2>&1 |
        grep -o 'HTTP/[0-9.]* [0-9]*' | head -1 | sed "s,.* ,$2: ,"
}
"""


def test_a_pod_runs_and_its_log_and_exit_code_are_kept(team_namespace: Team, shell_image: str) -> None:
    team_namespace.run("hello", shell_image, ["sh", "-c", "echo hello from $(hostname); exit 3"])
    team_namespace.wait("hello", "Failed")
    assert team_namespace.logs("hello") == "hello from hello\n"
    (status,) = team_namespace.pod("hello")["status"]["containerStatuses"]
    assert status["state"]["terminated"]["exitCode"] == 3


def test_a_native_sidecar_starts_before_the_job_and_ends_after_it(team_namespace: Team, shell_image: str) -> None:
    beside = {
        "name": "beside",
        "image": shell_image,
        "command": ["sh", "-c", "trap 'echo bell; exit 0' TERM; touch /tmp/up; while :; do sleep 0.1; done"],
        "restartPolicy": "Always",
        "startupProbe": {"exec": {"command": ["test", "-e", "/tmp/up"]}, "periodSeconds": 1},
    }
    team_namespace.run("two", shell_image, ["true"], initContainers=[beside])
    team_namespace.wait("two")
    assert team_namespace.logs("two", "beside") == "bell\n"


def test_a_job_over_its_memory_is_killed_and_the_pod_says_so(team_namespace: Team, shell_image: str) -> None:
    limits = {"resources": {"limits": {"memory": "24Mi"}}}
    team_namespace.run("greedy", shell_image, ["tail", "/dev/zero"], base=limits)
    team_namespace.wait("greedy", "Failed")
    (status,) = team_namespace.pod("greedy")["status"]["containerStatuses"]
    assert status["state"]["terminated"]["reason"] == "OOMKilled"


def test_a_pod_over_the_quota_is_refused(team_namespace: Team, shell_image: str) -> None:
    team_namespace.quota(requests_memory="64Mi")
    asked = {"resources": {"requests": {"memory": "128Mi"}}}
    with pytest.raises(RuntimeError, match=r"forbidden: exceeded quota: quota"):
        team_namespace.run("much", shell_image, base=asked)
    assert team_namespace.pods() == []


def test_an_account_has_rights_in_its_own_namespace_only(
    cluster: Cluster, team_namespace: Team, shell_image: str
) -> None:
    with cluster.team("other") as other:
        here, there = (f"/api/v1/namespaces/{one.namespace}/pods" for one in (team_namespace, other))
        asks = f"{ASK}\nask {here} here; ask {there} there; ask /api/v1/nodes nodes"
        team_namespace.run("asker", shell_image, ["sh", "-c", asks], serviceAccountName="datalayer")
        team_namespace.wait("asker")
        assert team_namespace.logs("asker") == "here: 200\nthere: 403\nnodes: 403\n"


def test_pods_and_this_machine_share_a_folder(team_namespace: Team, shell_image: str) -> None:
    if team_namespace.shared is None:
        pytest.skip("this cluster shares no folder with this machine")
    (team_namespace.shared / "host").write_text("from the host")
    volume = {"name": "shared", "persistentVolumeClaim": {"claimName": "shared"}}
    mount = {"volumeMounts": [{"name": "shared", "mountPath": str(team_namespace.shared)}]}
    script = f"cd {team_namespace.shared}; echo from $(hostname) > $(hostname); until cat host first second; do sleep 0.2; done"
    users: dict[str, dict[str, int]] = {"first": {"runAsUser": 12345, "runAsGroup": 54321}, "second": {}}
    for name, user in users.items():
        command = ["sh", "-c", script]
        team_namespace.run(name, shell_image, command, base=mount, volumes=[volume], securityContext=user)
    for name in users:
        team_namespace.wait(name)
        assert team_namespace.logs(name).endswith("from the hostfrom first\nfrom second\n")
    assert (team_namespace.shared / "first").read_text() == "from first\n"


def test_pods_find_each_other_by_name(team_namespace: Team, shell_image: str) -> None:
    served = "mkdir /tmp/w; echo served > /tmp/w/index.html; exec httpd -f -p 8080 -h /tmp/w"
    labels = {"name": "server", "labels": {"app": "server"}}
    container = {"name": "base", "image": shell_image, "command": ["sh", "-c", served]}
    spec = {"terminationGracePeriodSeconds": 0, "containers": [container]}
    team_namespace.apply(
        {"apiVersion": "v1", "kind": "Pod", "metadata": labels, "spec": spec},
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": "web"},
            "spec": {"selector": {"app": "server"}, "ports": [{"port": 80, "targetPort": 8080}]},
        },
    )
    team_namespace.wait("server", "Running")
    ask = "until wget -qO- http://web/; do sleep 0.2; done"
    team_namespace.run("client", shell_image, ["sh", "-c", ask])
    team_namespace.wait("client")
    assert team_namespace.logs("client").splitlines()[-1] == "served"


def test_a_pod_of_any_user_publishes_to_s3(team_namespace: Team, cluster_s3: S3Server, job_image: str) -> None:
    bucket = cluster_s3.new_bucket()
    environment = {
        "DATALAYER_DESIGN": "s3-direct",
        "DATALAYER_TIERS__COLD__URL": f"s3://{bucket}/outputs",
        "AWS_ENDPOINT_URL": cluster_s3.endpoint,
        "AWS_REGION": cluster_s3.region,
    }
    base = {
        "env": [{"name": name, "value": value} for name, value in environment.items()],
        "envFrom": [{"secretRef": {"name": "datalayer-s3"}}],
    }
    job = "echo 1,2 > /tmp/part.csv && datalayer put team/dag/task@2013-01-01 /tmp/part.csv && datalayer cat team/dag/task@2013-01-01 part.csv"
    user = {"runAsUser": 4321, "runAsGroup": 1234}
    team_namespace.run("job", job_image, ["sh", "-c", job], base=base, securityContext=user)
    team_namespace.wait("job")
    assert team_namespace.logs("job").endswith("1,2\n")
    with cluster_s3.client() as client:
        keys = [found["Key"] for found in client.list_objects_v2(Bucket=bucket)["Contents"]]
    assert any(key.endswith("/part.csv") for key in keys)


def test_a_pod_reads_from_alluxio(
    team_namespace: Team, cluster_s3: S3Server, cluster_alluxio: AlluxioServer, shell_image: str
) -> None:
    bucket = cluster_s3.new_bucket()
    with cluster_s3.client() as client:
        client.put_object(Bucket=bucket, Key="file", Body=b"hot")
    with cluster_alluxio.mount(bucket) as folder:
        signed = "Authorization: AWS4-HMAC-SHA256 Credential=a/20260101/us-east-1/s3/aws4_request, SignedHeaders=host, Signature=a"
        address = f"{folder.proxy}/api/v1/s3{folder.path}/file"
        team_namespace.run("reader", shell_image, ["wget", "-qO-", "--header", signed, address])
        team_namespace.wait("reader")
        assert team_namespace.logs("reader") == "hot"


COUNT = """
import socket
from pyspark.sql import SparkSession
session = SparkSession.builder.getOrCreate()
rows = session.range(100_000).repartition(8)
hosts = rows.rdd.mapPartitions(lambda _: [socket.gethostname()]).distinct().count()
rows.write.parquet("s3a://{bucket}/rows")
print("counted", session.read.parquet("s3a://{bucket}/rows").count(), "on", hosts, flush=True)
session.stop()
"""


def test_spark_counts_rows_on_executors_of_its_own(
    team_namespace: Team, cluster_s3: S3Server, spark_image: str
) -> None:
    bucket, namespace = cluster_s3.new_bucket(), team_namespace.namespace
    kubernetes = {
        "authenticate.driver.serviceAccountName": "datalayer",
        "container.image": spark_image,
        "driver.pod.name": "driver",
        "executor.request.cores": "100m",
        "namespace": namespace,
    }
    s3 = "spark.hadoop.fs.s3a"
    conf = {
        **{f"spark.kubernetes.{name}": value for name, value in kubernetes.items()},
        "spark.driver.host": "$POD_IP",
        # Little work: thoroughly compiled code would come too late.
        "spark.driver.extraJavaOptions": "-XX:TieredStopAtLevel=1",
        "spark.executor.extraJavaOptions": "-XX:TieredStopAtLevel=1",
        "spark.executor.instances": "2",
        "spark.executor.memory": "512m",
        "spark.scheduler.minRegisteredResourcesRatio": "1",
        f"{s3}.access.key": "$AWS_ACCESS_KEY_ID",
        f"{s3}.endpoint": cluster_s3.endpoint,
        f"{s3}.endpoint.region": cluster_s3.region,
        f"{s3}.path.style.access": "true",
        f"{s3}.secret.key": "$AWS_SECRET_ACCESS_KEY",
    }
    options = " ".join(f'--conf "{name}={value}"' for name, value in conf.items())
    submit = f"spark-submit --master k8s://https://kubernetes.default.svc --deploy-mode client {options} /tmp/job.py"
    job = f"cat > /tmp/job.py <<'JOB'{COUNT.format(bucket=bucket)}JOB\n{submit}"
    base = {
        # As arguments: the image's own entry point stays.
        "args": ["sh", "-c", job],
        "env": [{"name": "POD_IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}}],
        "envFrom": [{"secretRef": {"name": "datalayer-s3"}}],
    }
    team_namespace.run(
        "driver", spark_image, base=base, serviceAccountName="datalayer", securityContext={"runAsUser": 4321}
    )
    team_namespace.wait("driver", seconds=900)
    assert "counted 100000 on 2" in team_namespace.logs("driver")
    # The driver has ended them.
    assert team_namespace.pods() == ["driver"]


def test_the_airflow_image_runs_for_any_user(team_namespace: Team, airflow_image: str) -> None:
    script = (
        'python -c "import airflow_ops, airflow.providers.cncf.kubernetes" && airflow version && airflow providers list'
    )
    base = {"command": ["sh", "-c", script]}
    team_namespace.run("airflow", airflow_image, base=base, securityContext={"runAsUser": 4321})
    team_namespace.wait("airflow", seconds=900)
    assert "apache-airflow-providers-cncf-kubernetes" in team_namespace.logs("airflow")
