"""Snakemake's messages as lines that a person can follow: which job, how many of how many, how long.

Snakemake finds logger plugins by their package name, hence a package of its own.
"""

import logging
import sys
import time
from pathlib import Path

from contamination.base.processes import STOPPED
from snakemake_interface_logger_plugins.base import LogHandlerBase
from snakemake_interface_logger_plugins.common import LogEvent


class LogHandler(LogHandlerBase):
    def __post_init__(self) -> None:
        self.started = time.monotonic()
        self.jobs: dict[int, tuple[str, float]] = {}
        self.total = self.done = 0
        self.failed = False  # a failed job says why itself; Snakemake would repeat it with the whole command line
        self.rules_begun: set[str] = set()

    writes_to_stream = True
    writes_to_file = False
    has_filter = True
    has_formatter = True
    needs_rulegraph = False

    def emit(self, record) -> None:
        event = getattr(record, "event", None)
        if event == LogEvent.RUN_INFO:
            self.total = record.stats["total"] - record.stats.get("all", 0)
        elif event == LogEvent.JOB_INFO and record.rule_name != "all":
            self._job(record)
        elif event == LogEvent.JOB_FINISHED and record.job_id in self.jobs:
            name, started = self.jobs.pop(record.job_id)
            self.done += 1
            now = time.monotonic()
            clock = f"{int(now - self.started) // 60:3d}:{int(now - self.started) % 60:02d}"
            self._say(f"{clock} [{self.done:3d}/{self.total}] {name}  {now - started:.1f} s")
        elif STOPPED.is_set():
            return
        elif event == LogEvent.JOB_ERROR:
            name, _ = self.jobs.pop(record.jobid, (record.rule_name, 0.0))
            self.failed = True
            self._say(f"FAILED {name}" + _on_a_cluster(record))
        elif (
            record.levelno >= logging.ERROR and not self.failed and getattr(record, "exception", "") != "RuleException"
        ):
            self._say(record.getMessage())

    def _job(self, record) -> None:
        values = (str(value).removesuffix("/") for value in record.wildcards.values())
        name = " ".join([record.rule_name, *filter(None, values)])
        if self.common_settings.dryrun:
            self._say(f"{name}\n    {record.reason}")
        else:
            if record.rule_name not in self.rules_begun:
                self.rules_begun.add(record.rule_name)
                self._say(f"       {record.rule_name} ...")
            self.jobs[record.jobid] = (name, time.monotonic())

    def _say(self, line: str) -> None:
        print(line, file=sys.stderr, flush=True)


def _on_a_cluster(record) -> str:
    """What a job on a node has ended with, which has no way to say it here; nothing for a job of this machine."""
    if not (record.rule_msg and "external_jobid" in record.aux):
        return f": {record.rule_msg.splitlines()[0]}" if record.rule_msg else ""
    said = record.rule_msg.partition(" Reason")[0]
    log = Path(record.log[-1])
    if not log.exists():
        return f": {said} It left no {log}: does its node see {Path.cwd()}?"
    own = [line for line in log.read_text(errors="replace").splitlines() if line.startswith("contamination: ")]
    return f": {said} {own[-1] if own else f'See {log}'}"
