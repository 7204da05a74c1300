"""Server under load: many requests from several clients, all answered alike, and the memory of its processes.

    python benchmarks/serving.py --models models --requests 100 --clients 8

Five mouths of the demo clinic are sent in turn, every tenth request asks for the report. Memory is the
resident memory of the server and of its worker, at rest, after a fifth of the requests and at the end. The
limit of a prediction's time is raised, so that a busy machine changes the times only.
"""

import io
import socket
import subprocess
import sys
import tempfile
import time
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Annotated

import httpx
import typer

from dentalign.demo_clinic.clinic import make_clinic
from dentalign.running import command

MOUTHS = 5


def measure(
    models: Annotated[str, typer.Option(help="Models to serve.")] = "models",
    requests: Annotated[int, typer.Option(help="Number of requests.")] = 100,
    clients: Annotated[int, typer.Option(help="Number of clients.")] = 8,
) -> None:
    """Send requests and print times, memory and how the requests ended."""
    with tempfile.TemporaryDirectory() as name:
        make_clinic(Path(name) / "clinic", MOUTHS, seed=5)
        cases = [_zipped(Path(name) / "clinic", f"demo-{number:04d}") for number in range(1, MOUTHS + 1)]
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        options = ["--models", models, "--port", str(port), "--work-s", "900"]
        server = subprocess.Popen([sys.executable, "-m", "dentalign", "serve", *options])
        try:
            _run(f"http://127.0.0.1:{port}", cases, requests, clients, server.pid)
        finally:
            server.terminate()
            server.wait()


def _run(url: str, cases: list[bytes], requests: int, clients: int, server: int) -> None:
    plans: dict[int, set[bytes]] = {number: set() for number in range(len(cases))}
    taken, statuses, memory = [], [], []

    def ask(number: int) -> None:
        report = number % 10 == 9
        start = time.perf_counter()
        answer = httpx.post(
            f"{url}/predict?answer={'report' if report else 'json'}", content=cases[number % len(cases)],
            headers={"Content-Type": "application/zip"}, timeout=None, trust_env=False,
        )  # fmt: skip
        taken.append(time.perf_counter() - start)
        statuses.append(answer.status_code)
        if not report:
            plans[number % len(cases)].add(answer.content)
        memory.append(_mib(server))

    while True:
        try:
            httpx.get(f"{url}/models", trust_env=False, timeout=60)
            break
        except httpx.ConnectError:
            time.sleep(0.5)
    before = _mib(server)
    start = time.perf_counter()
    with ThreadPoolExecutor(clients) as pool:
        list(pool.map(ask, range(requests)))
    seconds = time.perf_counter() - start
    good, taken = statuses.count(200), sorted(taken)
    alike = all(len(found) <= 1 for found in plans.values())
    print(f"requests answered with 200: {good} of {requests}; the same answer to the same mouth: {alike}")
    print(f"{requests / seconds:.2f} requests/s; a request takes {taken[len(taken) // 2]:.2f} s (median), "
          f"{taken[-1]:.2f} s (most)")  # fmt: skip
    for name, at_rest, during in zip(("server", "worker"), before, zip(*memory, strict=True), strict=True):
        fifth = len(during) // 5
        print(f"memory of the {name}: {at_rest:.0f} MiB at rest, {during[fifth]:.0f} after {fifth} requests, "
              f"{during[-1]:.0f} at the end, {max(during):.0f} at most")  # fmt: skip
    left = list(Path(tempfile.gettempdir()).glob("dentalign-serve-*"))
    print(f"folders of requests left: {len(left)}")


def _mib(server: int) -> tuple[float, float]:
    """Resident memory of a process, and of its children together, MiB, as Linux says it."""
    process = Path("/proc") / str(server)
    lines = (process / "status").read_text().splitlines()
    own = next(int(line.split()[1]) for line in lines if line.startswith("VmRSS"))
    children = (process / "task" / str(server) / "children").read_text().split()
    return own / 1024, sum(sum(_mib(int(child))) for child in children)


def _zipped(clinic: Path, case_id: str) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as packed:
        packed.write(clinic / "json" / f"{case_id}.json", f"{case_id}.json")
        for file in sorted((clinic / "stl" / case_id).iterdir()):
            packed.write(file, f"crowns/{file.name}")
    return out.getvalue()


if __name__ == "__main__":
    command.run(measure)
