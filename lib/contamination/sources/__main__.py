"""Write the real image tables: `python -m contamination.sources '{"outputs": ..., "data": ..., "seed": 0}' WORKERS`."""

import json
import sys

from contamination.base.layout import Layout
from contamination.sources import class_names, prepare
from contamination.sources.readable_names import unshown

if __name__ == "__main__":
    task = json.loads(sys.argv[1])
    try:
        layout = Layout(task["outputs"])
        prepare(layout, task["data"], task["seed"], int(sys.argv[2]))
        for line in unshown(class_names(layout), task["data"].get("names") or ""):
            print(f"contamination: {line}", file=sys.stderr)
    except (ValueError, OSError) as problem:
        sys.exit(f"contamination: {problem}")
