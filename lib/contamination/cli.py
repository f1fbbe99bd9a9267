"""The `contamination` command."""

import argparse
import sys

from contamination import sweep


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="contamination", description="Run a contamination study from its parameter file."
    )
    verbs = parser.add_subparsers(dest="verb", required=True)
    verb = verbs.add_parser("run", help="bring a study up to date and write its report")
    verb.add_argument("study", help="parameter file, e.g. parameters/digits.yaml")
    verb.add_argument("--dry-run", action="store_true", help="list what would run, and why")
    verb.add_argument("--cores", type=int, help="CPU cores to use (default: the profile's)")
    chosen, extra = parser.parse_known_args(arguments)
    try:
        return sweep.run(chosen.study, chosen.dry_run, chosen.cores, extra)
    except (ValueError, RuntimeError, OSError) as problem:
        print(f"contamination: {problem}", file=sys.stderr)
        return 2
