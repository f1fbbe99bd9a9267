"""The `contamination` command."""

import argparse
import codecs
import io
import locale
import os
import sys
from pathlib import Path

from contamination.base.files import RECORD, read_json
from contamination.base.layout import project_root
from contamination.commands import check, export, plan, power, share, verify
from contamination.runner import sweep

GOES_ON = ("run", "generate")  # after Ctrl-C, from what is there
RATE = "images/s of one GPU for a set, a model, generate or train; for another stage seconds a job (evaluate: a model)"


def main(arguments: list[str] | None = None) -> int:
    if arguments is None:
        _be_utf8()
    parser = argparse.ArgumentParser(
        prog="contamination", description="Run a contamination study from its parameter file."
    )
    verbs = parser.add_subparsers(dest="verb", required=True)
    verb = verbs.add_parser("run", help="bring a study up to date and write its report")
    verb.add_argument("study", help="parameter file, e.g. parameters/digits.yaml")
    verb.add_argument("--dry-run", action="store_true", help="list what would run, and why")
    verb.add_argument("--cores", type=int, help="CPU cores to use (default: the profile's)")
    verb.add_argument("--profile", default="profiles/laptop", metavar="FOLDER", help="where jobs run; see profiles/")
    verb = verbs.add_parser("check", help="validate the images and prompts of a study without running it")
    verb.add_argument("study", help="parameter file, e.g. parameters/digits.yaml")
    verb = verbs.add_parser("plan", help="estimate what a run takes: jobs, images, hours, disk")
    verb.add_argument("study", help="parameter file, e.g. parameters/digits.yaml")
    verb.add_argument("--calibrate", action="store_true", help="first measure how fast this machine is")
    verb.add_argument("--rate", action="append", default=[], metavar="NAME=NUMBER", help=RATE)
    verb.add_argument("--gpus", type=int, help="GPUs to plan for (default: those of this machine)")
    verb.add_argument("--power", action="store_true", help="instead: replicates that show a harm, from results.csv")
    verb = verbs.add_parser(
        "generate", help="generate missing images, as one of several jobs on several GPUs or machines"
    )
    verb.add_argument("study", help="parameter file, e.g. parameters/digits.yaml")
    verb.add_argument("--set", metavar="NAME", help="one generated set instead of all")
    verb = verbs.add_parser("verify", help="check the generated images of a study, and generate some of them again")
    verb.add_argument("study", help="parameter file, e.g. parameters/digits.yaml")
    verb.add_argument("--sample", type=int, default=16, help="images of each set to generate again (default: 16)")
    verb = verbs.add_parser("export", help="write one mixture as a data set for other training code")
    verb.add_argument("study", help="parameter file, e.g. parameters/digits.yaml")
    verb.add_argument("--arm", required=True, help="clean, generated, other_real or dropped")
    verb.add_argument("--source", required=True, help="generated set; train for clean, pool for other_real, none else")
    verb.add_argument("--ratio", type=float, required=True, help="share of the real images that is removed")
    verb.add_argument("--seed", type=int, required=True, help="one of the grid's")
    verb.add_argument("--draw", type=int, help="draw of the generated set, where the grid crosses draws with seeds")
    verb.add_argument("--slots", type=int, help="what chooses the slots, where the grid crosses them with seeds")
    verb.add_argument("--form", required=True, help=f"format: {', '.join(export.FORMS)}")
    verb.add_argument("--to", required=True, metavar="FOLDER", help="folder to write, which must not exist yet")
    verb.add_argument("--shard-size", type=int, default=1000, help="images per file, where a file holds several")
    verb = verbs.add_parser("share", help="write a finished study as one page, its results and three notebooks")
    verb.add_argument("study", help="parameter file, e.g. parameters/digits.yaml")
    verb.add_argument("--to", required=True, metavar="FOLDER", help="folder to write")
    chosen, extra = parser.parse_known_args(arguments)
    if extra and chosen.verb != "run":  # only Snakemake takes more
        parser.error(f"unrecognized arguments: {' '.join(extra)}")
    chosen.study = _from_root(chosen.study)
    try:
        status = _do(chosen, extra)
        sys.stdout.flush()
        return status
    except KeyboardInterrupt:
        again = "goes on from here" if chosen.verb in GOES_ON else "begins anew"
        print(f"contamination: stopped\n`contamination {chosen.verb} {chosen.study}` {again}", file=sys.stderr)
        return 130
    except BrokenPipeError:  # whoever read this has enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except (ValueError, RuntimeError, OSError) as problem:
        print(f"contamination: {problem}", file=sys.stderr)
        return 2


def _do(chosen: argparse.Namespace, extra: list[str]) -> int:
    if chosen.verb == "check":
        return check.study(chosen.study)
    if chosen.verb == "plan" and chosen.power:
        return power.show(chosen.study)
    if chosen.verb == "plan":
        return plan.show(chosen.study, chosen.rate, chosen.calibrate, chosen.gpus)
    if chosen.verb == "generate":
        return sweep.draw(chosen.study, chosen.set)
    if chosen.verb == "verify":
        return verify.verify_study(chosen.study, chosen.sample)
    if chosen.verb == "export":
        return _export(chosen)
    if chosen.verb == "share":
        print(share.write(chosen.study, chosen.to))
        return 0
    return sweep.run(chosen.study, chosen.dry_run, cores=chosen.cores, extra=extra, profile_folder=chosen.profile)


def _be_utf8() -> None:
    """Start again in Python's UTF-8 mode where a locale would make file names and texts something else."""
    if codecs.lookup(locale.getpreferredencoding(False)).name != "utf-8":
        command = [sys.executable, *sys.orig_argv[1:]]
        os.execve(sys.executable, command, os.environ | {"PYTHONUTF8": "1"})
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # what a terminal cannot show is no reason to end


def _from_root(study_file: str) -> str:
    """A parameter file as the library names it, below the project; as given, where it lies below this folder."""
    file = Path(study_file).absolute()
    try:
        root = project_root()
    except FileNotFoundError:
        return study_file  # said where the study is read
    return str(file.relative_to(root)) if file.is_file() and file.is_relative_to(root) else study_file


def _export(chosen: argparse.Namespace) -> int:
    names = ("arm", "source", "ratio", "seed", "draw", "slots", "form", "shard_size")
    new = export.write(chosen.study, target=chosen.to, **{name: getattr(chosen, name) for name in names})
    record = read_json(Path(chosen.to) / RECORD)
    remarks = export.converted_in_words(record) + (
        "" if record["read_back_by"] else "; not read back: no reader installed"
    )
    print(f"{chosen.to}: {'written' if new else 'holds this export already'}{remarks}")
    return 0
