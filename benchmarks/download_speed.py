"""Images fetched per second from a server on this machine, without politeness limits; ours beside img2dataset.

    python benchmarks/download_speed.py [--images 4000] [--kilobytes 100]

img2dataset pins other versions than ours, so it runs in an environment of its own; name its interpreter:

    python -m venv /tmp/peer && /tmp/peer/bin/pip install img2dataset
    IMG2DATASET_PYTHON=/tmp/peer/bin/python python benchmarks/download_speed.py

Both keep the bytes as they come (img2dataset: resize_mode "no", skip_reencode) and write one file per image. Ours
also writes a ledger row and a SHA-256 per file. The server runs in its own process and is the same for both.
"""

import argparse
import asyncio
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import simplejpeg

PEER = """
import sys, time
from img2dataset import download
if __name__ == "__main__":
    start = time.perf_counter()
    download(url_list=sys.argv[1], input_format="parquet", url_col="url", output_folder=sys.argv[2],
             output_format="files", processes_count=int(sys.argv[3]), thread_count=int(sys.argv[4]),
             resize_mode="no", skip_reencode=True, number_sample_per_shard=1000, compute_hash=None,
             enable_wandb=False)
    print("seconds", time.perf_counter() - start)
"""

OURS = """
import sys, time, resource
from pathlib import Path
from linnaea.data.download.url_table import download
from linnaea.data.download.fetch import DownloadConfig
from linnaea.data.download.politeness import HostLimits
start = time.perf_counter()
n = int(sys.argv[3])
config = DownloadConfig(allow_private=True, ignore_robots=True, max_connections=n, host=HostLimits(max_connections=n))
summary = download(Path(sys.argv[1]), Path(sys.argv[2]), config)
assert summary.n_rejected == 0, summary.reasons
print("seconds", time.perf_counter() - start)
print("peak_mb", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
"""


def make_picture(n_bytes: int) -> bytes:
    """A JPEG of about ``n_bytes``: noise, padded after its end marker."""
    pixels = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    data: bytes = simplejpeg.encode_jpeg(pixels, quality=90)
    return data[:-2] + b"\xff\xfe\xff\xff" + b"\0" * 65533 + data[-2:] + b"\0" * max(0, n_bytes - len(data) - 65537)


class _Answers(asyncio.Protocol):
    """HTTP/1.1 with keep-alive and nothing else: as little of the machine as possible goes to the server."""

    body = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        self.waiting = b""

    def data_received(self, data: bytes) -> None:
        self.waiting += data
        while b"\r\n\r\n" in self.waiting:
            request, _, self.waiting = self.waiting.partition(b"\r\n\r\n")
            closes = b"connection: close" in request.lower()
            head = f"HTTP/1.1 200 OK\r\nContent-Type: image/jpeg\r\nContent-Length: {len(self.body)}\r\n"
            self.transport.write(
                f"{head}Connection: {'close' if closes else 'keep-alive'}\r\n\r\n".encode() + self.body
            )
            if closes:
                self.transport.close()


async def serve(n_bytes: int) -> None:
    _Answers.body = make_picture(n_bytes)
    server = await asyncio.get_running_loop().create_server(_Answers, "127.0.0.1", 0, backlog=1024)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


def seconds(command: list[str]) -> tuple[float, str]:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{command[0]} failed:\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}")
    lines = dict(line.split() for line in done.stdout.splitlines() if line.startswith(("seconds", "peak_mb")))
    return float(lines["seconds"]), lines.get("peak_mb", "")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=4000)
    parser.add_argument("--kilobytes", type=int, default=100)
    parser.add_argument("--connections", type=int, default=64)
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--serve", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        asyncio.run(serve(options.serve))
        return
    import polars as pl

    n, peer = options.images, os.environ.get("IMG2DATASET_PYTHON")
    server = subprocess.Popen(
        [sys.executable, __file__, "--serve", str(options.kilobytes * 1000)], stdout=subprocess.PIPE, text=True
    )
    assert server.stdout is not None
    port = int(server.stdout.readline())
    best: dict[str, float] = {}
    peak = ""
    try:
        for repeat in range(options.repeats):
            with tempfile.TemporaryDirectory() as scratch:
                table = Path(scratch) / "urls.parquet"
                pl.DataFrame({"url": [f"http://127.0.0.1:{port}/{repeat}/{k}.jpg" for k in range(n)]}).write_parquet(
                    table
                )
                sides = {
                    "linnaea": [sys.executable, "-c", OURS, str(table), f"{scratch}/ours", str(options.connections)]
                }
                if peer:
                    script = Path(scratch) / "peer.py"
                    script.write_text(PEER)
                    for processes in sorted({1, os.cpu_count() or 1}):
                        target = f"{scratch}/peer{processes}"
                        sides[f"img2dataset, {processes} processes"] = [
                            peer, str(script), str(table), target, str(processes), str(options.connections)
                        ]  # fmt: skip
                for side, command in sides.items():
                    took, memory = seconds(command)
                    best[side] = min(best.get(side, 1e9), took)
                    peak = memory or peak
                    n_files = sum(1 for _ in Path(scratch).rglob("*.jpg"))
                    assert n_files == n * (list(sides).index(side) + 1), f"{side} left files out"
                    time.sleep(0.5)
    finally:
        server.kill()
    print(f"{n:,} images of {options.kilobytes} kB, {options.connections} connections, best of {options.repeats}")
    for side, took in best.items():
        print(f"  {side:28} {n / took:8,.0f} images/s  {n * options.kilobytes / 1000 / took:7,.0f} MB/s")
    print(f"  linnaea's peak memory: {float(peak):,.0f} MB")
    if peer:
        rate = min(took for side, took in best.items() if side != "linnaea") / best["linnaea"]
        print(f"  linnaea / best of img2dataset: {rate:.2f}")
    else:
        print("  (set IMG2DATASET_PYTHON to measure img2dataset too; see the top of this file)")


if __name__ == "__main__":
    main()
