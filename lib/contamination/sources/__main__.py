"""Write the real image tables: `python -m contamination.sources '{"outputs": ..., "data": ..., "seed": 0}' WORKERS`."""

import json
import sys

from contamination.base.layout import Layout
from contamination.sources import prepare

if __name__ == "__main__":
    task = json.loads(sys.argv[1])
    try:
        prepare(Layout(task["outputs"]), task["data"], task["seed"], int(sys.argv[2]))
    except (ValueError, OSError) as problem:
        sys.exit(f"contamination: {problem}")
