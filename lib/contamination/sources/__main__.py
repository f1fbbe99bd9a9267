"""Write the real image tables, or the shifted test sets, of a study.

`python -m contamination.sources '{"outputs": ..., "data": ..., "seed": 0, "sets": "real"}'`; sets: real or shifted.
"""

import json
import sys

from contamination.layout import Layout
from contamination.sources import prepare, prepare_shifted

if __name__ == "__main__":
    task = json.loads(sys.argv[1])
    write = {"real": prepare, "shifted": prepare_shifted}[task["sets"]]
    try:
        write(Layout(task["outputs"]), task["data"], task["seed"])
    except (ValueError, OSError) as problem:
        sys.exit(f"contamination: {problem}")
