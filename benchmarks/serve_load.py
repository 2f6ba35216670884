"""``linnaea serve`` under more load than it can answer: what fails, how long it takes, whether memory grows.

    python benchmarks/serve_load.py                                   # the bundled model, a minute, 16 connections
    python benchmarks/serve_load.py --seconds 600 --connections 512   # ten minutes, beyond the limit of the queue
    python benchmarks/serve_load.py --model runs/mine --photographs photos/

Needs wrk. Photographs in turns (synthetic ones of several sizes where none are given), a broken one and one of another
format among them, some restricted to a clade; every second the server's resident memory. 200 and, for the broken one
alone, 415 are answers; 429 with Retry-After is the refusal that is meant and counted apart; anything else, and every
error of a connection, is a failed request and makes the exit code 1.
"""

import argparse
import json
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

import cv2
import numpy as np

PAGE = """
local bodies, counts, threads = {}, {}, {}
local retry = 0
for number = 1, %(n_bodies)d do
  local file = io.open(string.format("%(folder)s/%%d", number), "rb")
  bodies[number] = file:read("*a")
  file:close()
end
function setup(thread)
  thread:set("first", #threads * 7)
  table.insert(threads, thread)
end
local turn = 0
function request()
  turn = turn + 1
  local headers = {["Content-Type"] = "multipart/form-data; boundary=x"}
  return wrk.format("POST", "/predict", headers, bodies[(first + turn) %% #bodies + 1])
end
codes, bare = {}, 0
function response(status, headers, body)
  codes[status] = (codes[status] or 0) + 1
  if status == 429 and not headers["retry-after"] then bare = bare + 1 end
  local words = {}
  for code, n in pairs(codes) do table.insert(words, string.format('"%%d": %%d', code, n)) end
  seen = "{" .. table.concat(words, ", ") .. "}"
end
function done(summary, latency, requests)
  local parts, n_bare = {}, 0
  for _, thread in ipairs(threads) do
    table.insert(parts, thread:get("seen") or "{}")
    n_bare = n_bare + thread:get("bare")
  end
  local errors = summary.errors
  print(string.format('RESULT {"codes": [%%s], "bare": %%d, "seconds": %%g, "p50": %%g, "p99": %%g, "errors": %%d}',
    table.concat(parts, ", "), n_bare, summary.duration / 1e6, latency:percentile(50) / 1e3,
    latency:percentile(99) / 1e3, errors.connect + errors.read + errors.write + errors.timeout))
end
"""


def make_photographs() -> list[bytes]:
    """JPEGs of noise and gradients, 200 to 2000 pixels wide, as a camera's files compress."""
    rng, pictures = np.random.default_rng(0), []
    for width in (200, 500, 1000, 2000):
        small = rng.integers(0, 256, (width // 20, width // 16, 3)).astype(np.uint8)
        picture = cv2.resize(small, (width, width * 3 // 4), interpolation=cv2.INTER_CUBIC)
        pictures.append(cv2.imencode(".jpg", picture)[1].tobytes())
    pictures.append(cv2.imencode(".png", picture[:300, :400])[1].tobytes())
    return pictures


def make_body(data: bytes, within: str) -> bytes:
    head = b'--x\r\nContent-Disposition: form-data; name="files"; filename="a.jpg"\r\n\r\n'
    clade = b'\r\n--x\r\nContent-Disposition: form-data; name="within"\r\n\r\n' + within.encode() if within else b""
    return head + data + clade + b"\r\n--x--\r\n"


def resident_mb(pid: int) -> float:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * 4096 / 1e6


def wait_until_open(address: str, server: "subprocess.Popen[bytes]") -> dict[str, object]:
    for _ in range(600):
        try:
            with urllib.request.urlopen(f"{address}/health", timeout=5) as answer:
                health: dict[str, object] = json.load(answer)
                return health
        except OSError:
            if server.poll() is not None:
                raise SystemExit("the server did not start") from None
            time.sleep(0.2)
    raise SystemExit("the server did not open its port")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", default="nano")
    parser.add_argument("--photographs", type=Path)
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--connections", type=int, default=16)
    parser.add_argument("--waiting", type=int, default=256, help="the server's --max-waiting")
    options = parser.parse_args()
    if shutil.which("wrk") is None:
        raise SystemExit("wrk is not here: apt-get install wrk")
    if options.photographs:
        paths = sorted(options.photographs.rglob("*.jpg"))
        pictures = [path.read_bytes() for path in paths[:: max(1, len(paths) // 200)][:200]]
    else:
        pictures = make_photographs() * 10
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{probe.getsockname()[1]}"
    words = [sys.executable, "-m", "linnaea", "serve", "--model", options.model, "--port", address.rpartition(":")[2]]
    server = subprocess.Popen([*words, "--max-waiting", str(options.waiting)])
    try:
        health = wait_until_open(address, server)
        with urllib.request.urlopen(f"{address}/taxa?limit=3") as answer:
            clades = [clade["clade"] for clade in json.load(answer)]
        bodies = [make_body(data, clades[n % len(clades)] if n % 5 == 0 else "") for n, data in enumerate(pictures)]
        bodies.insert(7 % len(bodies), make_body(pictures[0][:200], ""))
        memory = measure(server.pid, address, bodies, options)
    finally:
        server.terminate()
        server.wait(30)
    output, resident = memory
    report(json.loads(output.rpartition("RESULT ")[2].splitlines()[0]), resident, health, options)


def measure(pid: int, address: str, bodies: list[bytes], options: argparse.Namespace) -> tuple[str, list[float]]:
    with tempfile.TemporaryDirectory() as folder:
        for number, body in enumerate(bodies, start=1):
            (Path(folder) / str(number)).write_bytes(body)
        script = Path(folder) / "load.lua"
        script.write_text(PAGE % {"n_bodies": len(bodies), "folder": folder})
        words = ["wrk", "-t1", f"-c{options.connections}", f"-d{options.seconds}s", "--timeout", "60s", "--latency"]
        wrk = subprocess.Popen([*words, "-s", str(script), address], stdout=subprocess.PIPE, text=True)
        resident = [resident_mb(pid)]
        while wrk.poll() is None:
            time.sleep(1)
            resident.append(resident_mb(pid))
        assert wrk.stdout is not None
        return wrk.stdout.read(), resident


def report(result: dict, resident: list[float], health: dict[str, object], options: argparse.Namespace) -> None:
    counts: dict[str, int] = {}
    for part in result["codes"]:
        for code, n in part.items():
            counts[code] = counts.get(code, 0) + n
    refused, answered = counts.get("429", 0), counts.get("200", 0) + counts.get("415", 0)
    failed = sum(counts.values()) - refused - answered + result["errors"] + result["bare"]
    quarter = len(resident) // 4
    first, last = max(resident[quarter : 2 * quarter], default=0), max(resident[-quarter:], default=0)
    print(f"{health['model']}, {health['n_labels']:,} taxa; {options.connections} connections, queue {options.waiting}")
    print(f"{answered:,} answered ({answered / result['seconds']:.1f}/s), {refused:,} refused with Retry-After,"
          f" {failed:,} failed; by status {counts}")  # fmt: skip
    print(f"half within {result['p50']:.0f} ms, 99% within {result['p99']:.0f} ms (refusals among them)")
    print(f"resident MB: {resident[0]:.0f} at first, {first:.0f} in the second quarter, {last:.0f} in the last,"
          f" peak {max(resident):.0f}")  # fmt: skip
    raise SystemExit(1 if failed else 0)


if __name__ == "__main__":
    main()
