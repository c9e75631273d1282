"""The console command `linescore`: `linescore VERB …` is `python jobs/VERB.py …`."""

import importlib
import pkgutil
import sys

import jobs

_NOT_JOBS = {"cli", "command", "hooks", "logs", "notices", "stderr_lines"}


def verbs() -> list[str]:
    """Names of the jobs: the modules of this folder."""
    names = {module.name for module in pkgutil.iter_modules(jobs.__path__)}
    return sorted(names - _NOT_JOBS)


def main(argv: list[str] | None = None) -> int:
    """Runs the job that the first argument names; its exit status."""
    verb, *rest = (sys.argv[1:] if argv is None else argv) or ["--help"]
    name = verb.replace("-", "_")
    if name in verbs():
        status: int = importlib.import_module(f"jobs.{name}").main(rest)
        return status
    usage = f"usage: linescore VERB [--config FILE] [KEY=VALUE ...]\nverbs: {', '.join(verbs())}\n"
    if verb in ("--help", "-h"):
        sys.stdout.write(usage + "linescore VERB --help lists a verb's settings\n")
        return 0
    sys.stderr.write(f"error: {verb}: no such verb\n{usage}")
    return 2


if __name__ == "__main__":
    sys.exit(main())
