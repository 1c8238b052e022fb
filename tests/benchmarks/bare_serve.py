"""Ray Serve with one empty deployment: what a serving plane costs before it does anything.

    python -m tests.benchmarks.bare_serve FOLDER PORT

prints a line of JSON with its memory in MB once it has answered, then waits to be ended. FOLDER is
Ray's, short enough for its sockets.
"""

import json
import os
import sys
import urllib.request


def main(folder: str, port: int) -> None:
    """Start, answer once, tell the memory, wait."""
    os.environ |= {
        "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1",
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_AUTH_MODE": "disabled",  # else it writes a token to the home of whoever measures
    }
    import ray  # it reads the environment when it is imported
    from ray import serve

    from services.embedded.processes import proportional_memory_bytes

    class Empty:
        async def __call__(self) -> str:
            return "empty"

    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, _temp_dir=folder)
    serve.start(http_options={"host": "127.0.0.1", "port": port})
    serve.run(serve.deployment(Empty).options(ray_actor_options={"num_cpus": 0}).bind())
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=30) as answer:
        answer.read()
    memory = proportional_memory_bytes(os.getpid()) or 0
    sys.stdout.write(json.dumps({"memory_mb": memory / 1e6}) + "\n")
    sys.stdout.flush()
    sys.stdin.read()
    ray.shutdown()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
