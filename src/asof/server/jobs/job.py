"""The process of one job: `python -m asof.server.jobs.job` materializes and writes its progress to the job's file."""

from __future__ import annotations

import json
import sys
import time
import traceback
from pathlib import Path
from typing import Any

from asof.errors import AsofError
from asof.server.http.errors import error_object
from asof.server.jobs.processes import write
from asof.store import FeatureStore
from asof.timing import iso
from asof.values.json import write_value

EVERY_S = 0.5
"""Interval between writes of progress."""


def main(argv: list[str]) -> int:
    """Materialize; the exit code is that of `asof materialize`."""
    order = json.loads(argv[0])
    file = Path(order["file"])
    content = json.loads(file.read_text())
    written_at = 0.0

    def progress(what: str, done: int, total: int | None) -> None:
        nonlocal written_at
        if time.monotonic() - written_at >= EVERY_S:
            written_at = time.monotonic()
            write(file, content | {"progress": {"what": what, "done": done, "total": total}})

    def end(state: str, **more: Any) -> None:
        write(file, content | {"state": state, "ended": iso(time.time_ns() // 1000), **more})

    try:
        with FeatureStore(order["repo"], fs_yaml_file=order["config_file"] or None, env=order["env"]) as store:
            done = store.materialize(order["start"], order["end"], order["views"], progress=progress)
        end("done", result=write_value(done.to_dicts()))
        return 0
    except AsofError as error:
        end("failed", error=error_object(error))
        return error.exit_code
    except Exception as error:
        traceback.print_exc()
        end("failed", error=error_object(error) | {"message": f"the job failed: {error}"})
        return 70


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
