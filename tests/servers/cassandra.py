"""A real CQL server: Apache Cassandra, fetched once from Maven's repository, on Java 17."""

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

from tests.servers.processes import OwnServer
from tests.servers.s3 import cache

VERSION = "5.0.5"
USERNAME, PASSWORD = "cassandra", "cassandra"
_STORE_PASSWORD = "test-store"
_STARTED_S = 600

_POM = f"""<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>polyplane.tests</groupId>
  <artifactId>cassandra</artifactId>
  <version>1</version>
  <dependencies>
    <dependency>
      <groupId>org.apache.cassandra</groupId>
      <artifactId>cassandra-all</artifactId>
      <version>{VERSION}</version>
    </dependency>
  </dependencies>
</project>
"""
# `commitlog_sync: batch`: a write is acknowledged once it is on the disk, as kill -9 tests want it.
_YAML = """cluster_name: polyplane-tests
num_tokens: 1
auto_bootstrap: false
partitioner: org.apache.cassandra.dht.Murmur3Partitioner
endpoint_snitch: SimpleSnitch
listen_address: 127.0.0.1
rpc_address: 127.0.0.1
storage_port: {storage_port}
native_transport_port: {port}
seed_provider:
  - class_name: org.apache.cassandra.locator.SimpleSeedProvider
    parameters:
      - seeds: "127.0.0.1:{storage_port}"
authenticator: PasswordAuthenticator
authorizer: CassandraAuthorizer
role_manager: CassandraRoleManager
client_encryption_options:
  enabled: true
  optional: true
  keystore: {folder}/server.p12
  keystore_password: {store_password}
  store_type: PKCS12
commitlog_sync: batch
commitlog_segment_size: 8MiB
max_mutation_size: 4MiB
memtable_heap_space: 64MiB
memtable_offheap_space: 64MiB
concurrent_reads: 8
concurrent_writes: 8
data_file_directories: ["{folder}/data"]
commitlog_directory: {folder}/commitlog
saved_caches_directory: {folder}/saved_caches
hints_directory: {folder}/hints
"""
_LOGBACK = """<configuration>
  <appender name="STDOUT" class="ch.qos.logback.core.ConsoleAppender">
    <encoder><pattern>%d %-5level %logger{0} %msg%n</pattern></encoder>
  </appender>
  <root level="WARN"><appender-ref ref="STDOUT"/></root>
</configuration>
"""
_EXPORTS = (
    "java.base/java.lang.ref java.base/java.math java.base/jdk.internal.misc "
    "java.base/jdk.internal.ref java.base/sun.nio.ch "
    "java.management.rmi/com.sun.jmx.remote.internal.rmi java.rmi/sun.rmi.registry "
    "java.rmi/sun.rmi.server java.sql/java.sql"
)
_OPENS = (
    "java.base/java.io java.base/java.lang java.base/java.lang.module java.base/java.net "
    "java.base/java.nio java.base/java.util java.base/java.util.concurrent "
    "java.base/java.util.concurrent.atomic java.base/jdk.internal.loader "
    "java.base/jdk.internal.math java.base/jdk.internal.module java.base/jdk.internal.ref "
    "java.base/jdk.internal.reflect java.base/jdk.internal.util.jar java.base/sun.nio.ch "
    "jdk.management/com.sun.management.internal"
)


def missing() -> str | None:
    """Return why there can be no Cassandra here; None: there can."""
    if shutil.which("java") is None or shutil.which("keytool") is None:
        return "no Cassandra: it runs on Java 17 (java, keytool), which is not installed"
    if not libraries().is_dir() and shutil.which("mvn") is None:
        return "no Cassandra: Maven (mvn) fetches it, and is not installed"
    return None


def libraries() -> Path:
    """Return where the server's libraries are, or will be."""
    return cache() / f"cassandra-{VERSION}" / "lib"


def fetch() -> None:
    """Fetch the libraries if they are not there yet: 66 MB, less than a minute."""
    if libraries().is_dir():
        return
    fetching = libraries().parent.with_name(f"cassandra-{VERSION}.{os.getpid()}")
    fetching.mkdir(parents=True)
    (fetching / "pom.xml").write_text(_POM, "utf-8")
    command = ["mvn", "-q", "-B", "dependency:copy-dependencies", "-DoutputDirectory=lib"]
    subprocess.run(command, cwd=fetching, check=True, timeout=600)
    try:
        fetching.rename(libraries().parent)
    except OSError:  # another run was faster
        shutil.rmtree(fetching)


class CassandraServer(OwnServer):
    """One node with passwords and TLS, of the data centre `datacenter1`."""

    def __init__(self, folder: Path, *, port: int, storage_port: int) -> None:
        """Store its folder, which this makes, and its ports."""
        self.address = f"127.0.0.1:{port}"
        self.certificate = folder / "server.pem"
        self._port = port
        folder.mkdir(parents=True)
        (folder / "cassandra.yaml").write_text(
            _YAML.format(
                folder=folder, port=port, storage_port=storage_port, store_password=_STORE_PASSWORD
            ),
            "utf-8",
        )
        (folder / "logback.xml").write_text(_LOGBACK, "utf-8")
        super().__init__(
            _command(folder),
            folder=folder,
            log=folder.with_name(f"{folder.name}.log"),
            environment=dict(os.environ),
        )

    def make_certificate(self) -> None:
        """Make the key of the server's TLS and write its certificate to `certificate`."""
        store = ["-storepass", _STORE_PASSWORD, "-keystore", str(self._folder / "server.p12")]
        alias = ["-alias", "server", *store]
        name = ["-dname", "CN=localhost", "-ext", "san=ip:127.0.0.1,dns:localhost"]
        kind = ["-keyalg", "EC", "-storetype", "PKCS12", "-validity", "2"]
        for command in (
            ["-genkeypair", *kind, *name, *alias],
            ["-exportcert", "-rfc", "-file", str(self.certificate), *alias],
        ):
            subprocess.run(["keytool", *command], check=True, capture_output=True, timeout=60)

    def wait_until_open(self) -> None:
        """Wait until it takes connections.

        Raises:
            TimeoutError: It does not within ten minutes.
            RuntimeError: It ended.
        """
        end = time.monotonic() + _STARTED_S
        while time.monotonic() < end:
            if self.has_ended():
                raise RuntimeError(f"Cassandra ended: {self._log.read_text('utf-8')[-2000:]}")
            with (
                contextlib.suppress(OSError),
                socket.create_connection(("127.0.0.1", self._port), 1),
            ):
                return
            time.sleep(0.1)
        raise TimeoutError(f"no Cassandra at {self.address}")


def _command(folder: Path) -> list[str]:
    jamm = next(iter(sorted(libraries().glob("jamm-*.jar"))), "jamm.jar")
    return [
        "java",
        *("-Xms384m", "-Xmx384m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xss512k"),
        f"-javaagent:{jamm}",
        "-Djdk.attach.allowAttachSelf=true",
        *(word for name in _EXPORTS.split() for word in ("--add-exports", f"{name}=ALL-UNNAMED")),
        *(word for name in _OPENS.split() for word in ("--add-opens", f"{name}=ALL-UNNAMED")),
        f"-Dcassandra.config=file://{folder}/cassandra.yaml",
        f"-Dlogback.configurationFile={folder}/logback.xml",
        f"-Dcassandra.storagedir={folder}",
        *("-Dcassandra-foreground=yes", "-Dcassandra.ring_delay_ms=1"),
        *(
            "-Dcassandra.skip_wait_for_gossip_to_settle=0",
            "-Dcassandra.superuser_setup_delay_ms=0",
        ),
        *("-cp", f"{libraries()}/*", "org.apache.cassandra.service.CassandraDaemon"),
    ]


if __name__ == "__main__":  # to look at it: python -m tests.servers.cassandra FOLDER PORT PORT
    fetch()
    server = CassandraServer(
        Path(sys.argv[1]), port=int(sys.argv[2]), storage_port=int(sys.argv[3])
    )
    server.make_certificate()
    server.start()
    server.wait_until_open()
    sys.stdout.write(f"{server.address} {server.pid}\n")
