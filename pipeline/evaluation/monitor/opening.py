"""From a published run to its sketch."""

from __future__ import annotations

from collections.abc import Sequence

from pipeline.config import MonitorConfig
from pipeline.errors import InputError
from pipeline.evaluation.monitor.counting import Work, count_errors, sketches
from pipeline.evaluation.monitor.measures import FACTS
from pipeline.evaluation.monitor.rows import Chosen, chosen_rows
from pipeline.evaluation.monitor.sketch import RunSketch
from pipeline.evaluation.table import ScoredTable, open_errors, open_runs
from pipeline.policy.language import Policy
from pipeline.policy.language.document import leaves_of
from pipeline.tables.runs import load_published

USUAL_SCORES = ("anomaly_score", "defect_logit", "detection_max_confidence", "detection_count")
# Of a run's record, told of both and compared with nothing: clocks of two nights may disagree.
_TOLD = ("finished_at", "manifest_digest", "bundle_digest", "skipped")


def opened(store: str, run_id: str, setting: str) -> ScoredTable:
    """The scores of a published run.

    Raises:
        InputError: no such run, or none that is finished; names the setting.
    """
    try:
        return open_runs(store, [run_id])
    except InputError as error:
        raise InputError(f"{setting}: {error}") from None


def compared_rows(config: MonitorConfig, table: ScoredTable) -> Chosen:
    """Which rows of a run are compared; of one without scores its errors have the roles.

    Raises:
        InputError: a role that no row has.
    """
    (run_id,) = table.origin["runs"]
    telling = table if table.rows else open_errors(config.store, run_id)
    return chosen_rows(telling, config.roles, good_only=config.good_only)


def scorer_of(table: ScoredTable) -> str:
    """The digest of what a run's scores depend on."""
    return str(table.origin["scorer_digest"])


def number_columns(
    config: MonitorConfig, policies: Sequence[Policy], table: ScoredTable
) -> tuple[str, ...]:
    """The columns of numbers that are counted: scores, what policies read, facts.

    Raises:
        InputError: a score that the table has no column for.
    """
    for name in config.scores or ():
        if name not in table.scores or name in FACTS:
            raise InputError(
                f"scores: {name}: is no score of {table.name}; it has "
                f"{', '.join(n for n in table.scores if n not in FACTS)}"
            )
    wanted = USUAL_SCORES if config.scores is None else config.scores
    read = sorted({name for policy in policies for name in _read_by(policy)})
    return tuple(n for n in dict.fromkeys([*wanted, *read, *FACTS]) if n in table.scores)


def _read_by(policy: Policy) -> set[str]:
    rules = [policy.rule, *(override.rule for override in policy.overrides)]
    leaves = (leaf for rule in rules if rule is not None for leaf in leaves_of(rule))
    return {leaf.score for leaf in leaves}


def sketch_of(store: str, table: ScoredTable, chosen: Chosen, work: Work) -> RunSketch:
    """A run's sketch: one pass over its rows.

    Raises:
        InputError: a damaged file, or a row without a score that a policy can't do without.
    """
    (run_id,) = table.origin["runs"]
    found = sketches(table, chosen, work)
    count_errors(store, run_id, chosen, found)
    record = load_published(store, run_id)
    about = {name: record.get(name) for name in _TOLD}
    return RunSketch(run_id, scorer_of(table), chosen.says, found, about)
