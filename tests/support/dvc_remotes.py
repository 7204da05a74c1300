"""DVC remotes for tests: a folder, a real sshd and an S3 server, both on loopback."""

import getpass
import importlib.util
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest

LIMIT_S = 30.0
BUCKET = "clinic"


class Relay:
    """TCP relay to a server that counts the bytes in both directions."""

    def __init__(self, port: int):
        self._to = port
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._socket.getsockname()[1]
        self._counting = threading.Lock()
        self.sent = 0  # by the server, what its clients received
        self.received = 0  # by the server
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with suppress(OSError):  # closed
            while True:
                client, _ = self._socket.accept()
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with client, suppress(OSError), socket.create_connection(("127.0.0.1", self._to)) as server:
            back = threading.Thread(target=self._pass, args=(server, client, "sent"), daemon=True)
            back.start()
            self._pass(client, server, "received")
            back.join()

    def _pass(self, source: socket.socket, sink: socket.socket, name: str) -> None:
        with suppress(OSError):
            while piece := source.recv(1 << 16):
                with self._counting:
                    setattr(self, name, getattr(self, name) + len(piece))
                sink.sendall(piece)
            sink.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        """Accept no more connections."""
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)  # wakes the thread that accepts
        self._socket.close()


@dataclass
class Remote:
    """Running DVC remote.

    url         : as `dvc remote add` takes it
    options     : for `dvc remote modify`
    environment : variables that DVC's process needs for access
    relay       : counts the bytes on the wire; None for a folder
    folder      : where its objects lie on this machine, None for S3
    known_hosts : SSH only, a file with the server's key
    """

    url: str
    options: dict[str, str] = field(default_factory=dict)
    environment: dict[str, str] = field(default_factory=dict)
    relay: Relay | None = None
    folder: Path | None = None
    known_hosts: Path | None = None


@contextmanager
def started(kind: str, folder: Path) -> Iterator[Remote]:
    """Run a remote "folder", "ssh" or "s3" during the block; skips the test if its server is missing."""
    with ExitStack() as stack:
        yield {"folder": _folder, "ssh": _ssh, "s3": _s3}[kind](folder, stack)


def _folder(folder: Path, _: ExitStack) -> Remote:
    return Remote(str(folder / "storage"), folder=folder / "storage")


def _ssh(folder: Path, stack: ExitStack) -> Remote:
    sshd, keygen = shutil.which("sshd", path=f"{os.environ['PATH']}:/usr/sbin"), shutil.which("ssh-keygen")
    if not (sshd and keygen):
        pytest.skip("no sshd here: apt-get install openssh-server")
    _need("dvc_ssh", "dvc[ssh]")
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)  # sshd's own, made at boot
    for name in ("host_key", "key"):
        subprocess.run([keygen, "-q", "-t", "ed25519", "-N", "", "-f", folder / name], check=True)
    port = _free_port()
    settings = {
        "ListenAddress": f"127.0.0.1:{port}", "HostKey": folder / "host_key", "PidFile": "none",
        "AuthorizedKeysFile": folder / "key.pub", "PasswordAuthentication": "no", "UsePAM": "no",
        "StrictModes": "no", "PermitRootLogin": "prohibit-password", "Subsystem": "sftp internal-sftp",
    }  # fmt: skip
    config = "".join(f"{name} {value}\n" for name, value in settings.items())
    (folder / "sshd_config").write_text(config, encoding="utf-8")
    _serve([sshd, "-D", "-e", "-f", str(folder / "sshd_config")], port, folder / "sshd.log", stack)
    relay = Relay(port)
    stack.callback(relay.close)
    public = (folder / "host_key.pub").read_text(encoding="utf-8").split()
    known_hosts = folder / "known_hosts"
    known_hosts.write_text(f"[127.0.0.1]:{relay.port} {public[0]} {public[1]}\n", encoding="utf-8")
    return Remote(
        url=f"ssh://{getpass.getuser()}@127.0.0.1:{relay.port}{folder / 'storage'}",
        options={"keyfile": str(folder / "key")},
        relay=relay,
        folder=folder / "storage",
        known_hosts=known_hosts,
    )


def _s3(folder: Path, stack: ExitStack) -> Remote:
    _need("dvc_s3", "dvc[s3]")
    _need("moto", "moto[server]")
    port = _free_port()
    _serve(
        [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)],
        port, folder / "s3.log", stack,
    )  # fmt: skip
    relay = Relay(port)
    stack.callback(relay.close)
    (folder / "no_profile").touch()
    keys = {
        "AWS_ACCESS_KEY_ID": "a-key", "AWS_SECRET_ACCESS_KEY": "a-secret", "AWS_DEFAULT_REGION": "us-east-1",
    }  # fmt: skip
    keys |= dict.fromkeys(("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"), str(folder / "no_profile"))
    address = f"http://127.0.0.1:{relay.port}"
    make_bucket = (
        f"import boto3; boto3.client('s3', endpoint_url='{address}').create_bucket(Bucket='{BUCKET}')"
    )
    subprocess.run([sys.executable, "-c", make_bucket], check=True, env=os.environ | keys)
    return Remote(f"s3://{BUCKET}/dentalign", {"endpointurl": address}, keys, relay)


def _need(module: str, package: str) -> None:
    if importlib.util.find_spec(module) is None:
        pytest.skip(f"{package} is not installed: pip install -e '.[remote]'")


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


def _serve(command: list[str], port: int, log: Path, stack: ExitStack) -> None:
    """Start a server, wait until it answers, and end it with the stack."""
    with open(log, "w", encoding="utf-8") as file:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=file, stderr=file)
    stack.callback(_end, process)
    _wait(lambda: process.poll() is not None or _answers(port))
    assert process.poll() is None, log.read_text(encoding="utf-8")


def _answers(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


def _wait(until: Callable[[], bool]) -> None:
    end = time.monotonic() + LIMIT_S
    while not until():
        assert time.monotonic() < end
        time.sleep(0.05)


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    process.wait(LIMIT_S)
