"""Clients of a service in a closed loop, in a process of their own: each asks, waits for the answer, asks again.

    echo '{"port": 8501, "clients": 8, "seconds": 5, "bodies": ["{...}"]}' | \\
        python -m experiments.benchmarking.load_generator

Prints requests/s, latencies in milliseconds and the statuses of the answers as JSON.
"""

import asyncio
import collections
import json
import sys
import time
from collections.abc import Sequence
from typing import Any

import numpy as np

_WARM_UP = 0.3  # of the seconds, before those that count


async def _client(
    port: int, requests: Sequence[bytes], until: float, statuses: list[int], latencies: list[float]
) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    number = 0
    while (start := time.perf_counter()) < until:
        writer.write(requests[number % len(requests)])
        number += 1
        head = await reader.readuntil(b"\r\n\r\n")
        length = head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0]
        await reader.readexactly(int(length))
        statuses.append(int(head[9:12]))
        latencies.append(1000 * (time.perf_counter() - start))
    writer.close()


async def _load(port: int, clients: int, seconds: float, requests: Sequence[bytes]) -> Any:
    statuses: list[int] = []
    latencies: list[float] = []
    start = time.perf_counter()
    await asyncio.gather(
        *(
            # Each begins with another request, so that users differ.
            _client(
                port,
                [*requests[n % len(requests) :], *requests[: n % len(requests)]],
                start + seconds,
                statuses,
                latencies,
            )
            for n in range(clients)
        )
    )
    return time.perf_counter() - start, statuses, latencies


def main() -> None:
    """Runs the load of standard input."""
    task = json.load(sys.stdin)
    heads = "POST /rank HTTP/1.1\r\nHost: benchmark\r\nContent-Length: {}\r\n\r\n"
    requests = [heads.format(len(body)).encode() + body.encode() for body in task["bodies"]]
    arguments = task["port"], task["clients"]
    asyncio.run(_load(*arguments, _WARM_UP * task["seconds"], requests))
    seconds, statuses, latencies = asyncio.run(_load(*arguments, task["seconds"], requests))
    p50, p99, p999 = np.percentile(latencies, [50, 99, 99.9])
    figures = {
        "rate": len(statuses) / seconds,
        "steps": len(statuses),
        "p50_ms": float(p50),
        "p99_ms": float(p99),
        "p999_ms": float(p999),
        "statuses": dict(collections.Counter(map(str, statuses))),
    }
    sys.stdout.write(json.dumps(figures) + "\n")


if __name__ == "__main__":
    main()
