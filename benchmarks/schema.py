"""Sends generated requests to every operation of the OpenAPI document, as every role; says what answered otherwise.

    python benchmarks/schema.py [--cases 20000] [--seed 1] [--only /api/v1/builds]

No answer may be a 5xx or differ from the document in status, headers, content type or schema. A run says its seed, and
the same seed sends the same requests. It ends with status 1 when anything was found.
"""

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

with tempfile.TemporaryDirectory() as folder:
    os.environ |= {
        "CACHESCOPE_DATA": folder,
        "CACHESCOPE_DATABASE_URL": f"sqlite:///{folder}/cachescope.db",
        "CACHESCOPE_SECRET_KEY": "a key for benchmarks alone that has 32 characters",
        "CACHESCOPE_WORKER_QUEUE_FOLDER": f"{folder}/queue",
        "CACHESCOPE_WORKER_LOG_STYLE": "json",
        "CACHESCOPE_WEB_TOKEN_REQUESTS_PER_MINUTE": "0",
        "CACHESCOPE_WEB_ADDRESS_REQUESTS_PER_MINUTE": "0",
    }

    import logging

    from service.app import create_app
    from store import migrations
    from store.database import get_engine
    from tests import schemas, serving
    from tests.worlds import make_world

    def main() -> int:
        """Run, print what was found, and return the exit status."""
        parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
        parser.add_argument("--cases", type=int, default=20_000)
        parser.add_argument("--seed", type=int, default=1)
        parser.add_argument("--only", default="", help="beginning of the paths to ask")
        given = parser.parse_args()
        migrations.upgrade(get_engine())
        world, app = make_world(), create_app()
        logging.disable(logging.INFO)
        document = app.openapi()
        operations = sum(len(path) for name, path in document["paths"].items() if name.startswith(given.only))
        # Operations that take nothing have few requests; what they leave over goes to the others.
        examples = -(-given.cases // (operations * len(world.credentials) * 2)) * 5 // 4 + 1
        began = time.perf_counter()
        with serving.serve(app) as url:
            found = schemas.fuzz(
                document,
                url,
                world,
                examples=examples,
                seed=given.seed,
                is_wanted=lambda _method, path: path.startswith(given.only),
            )
        seconds = time.perf_counter() - began
        print(f"{found.cases} requests to {operations} operations as {len(world.credentials)} persons", end=" ")
        print(f"in {seconds:.0f} s, seed {given.seed}")
        for name, count in sorted(found.statuses.items()):
            print(f"  {name:<20} {count:>7}")
        for title, request in found.troubles.items():
            print(f"\n## {title}\n{request}")
        print(f"\n{len(found.troubles)} kinds of answers that must not be.")
        return 1 if found.troubles else 0

    if __name__ == "__main__":
        sys.exit(main())
