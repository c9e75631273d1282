"""Champion against challengers: which images change sides, and whether that is more than chance."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import pyarrow as pa

from pipeline.evaluation.groups import LABEL_CODES
from pipeline.evaluation.rows import NAMED, RowSource, typed
from pipeline.policy.choosing.champion import Flips, compare
from pipeline.policy.choosing.confusion import DECISIONS
from pipeline.policy.language import OUTCOMES, Resolved, decide
from pipeline.tables.evaluation_schemas import FLIPS

# From the language's codes of outcomes to the order in which crossed counts have them.
_PLACE = np.array([DECISIONS.index(outcome) for outcome in OUTCOMES])


def compared(
    source: RowSource, champion: Resolved, challengers: Sequence[Resolved]
) -> tuple[list[dict[str, Any]], pa.Table]:
    """What changes when a challenger takes the champion's place.

    Args:
        source: the rows; of unlabelled ones only the images are told.
        champion: the policy in use.
        challengers: others, resolved for the same rows.

    Returns:
        A record of counts and McNemar's exact p-values for each challenger, and the images whose
        decision changes (`flips` table).
    """
    crossed = np.zeros((len(challengers), 2, 3, 3), np.int64)
    label_of = np.array([LABEL_CODES[g.is_defect] for g in source.grouping.groups], np.int64)
    tables: list[pa.Table] = []
    for batch in source.batches():
        label = label_of[batch.group]
        known = label >= 0
        ours = _PLACE[decide(champion, source.language_rows(batch, champion))]
        for number, challenger in enumerate(challengers):
            theirs = _PLACE[decide(challenger, source.language_rows(batch, challenger))]
            key = (label * 3 + ours) * 3 + theirs
            crossed[number] += np.bincount(key[known], minlength=18).reshape(2, 3, 3)
            changed = np.flatnonzero(ours != theirs)
            columns = {name: batch.columns[name].take(pa.array(changed)) for name in NAMED}
            both = (ours[changed], theirs[changed])
            tables.append(_flips(columns, both, (champion, challenger)))
    records = [
        _record(champion, challenger, counts)
        for challenger, counts in zip(challengers, crossed, strict=True)
    ]
    return records, pa.concat_tables([FLIPS.empty_table(), *tables])


def _flips(
    columns: dict[str, pa.Array], both: tuple[Any, Any], policies: tuple[Resolved, Resolved]
) -> pa.Table:
    words = pa.array(DECISIONS)
    count = len(both[0])
    data: dict[str, Any] = {
        "champion": [policies[0].policy.name] * count,
        "challenger": [policies[1].policy.name] * count,
        "champion_decision": words.take(pa.array(both[0])),
        "challenger_decision": words.take(pa.array(both[1])),
    } | columns
    arrays = [typed(data[field.name], field.type) for field in FLIPS]
    return pa.table(arrays, schema=FLIPS)


def _record(champion: Resolved, challenger: Resolved, crossed: Any) -> dict[str, Any]:
    found = compare(crossed)
    return {
        "champion": champion.policy.name,
        "challenger": challenger.policy.name,
        "defects": _plain(found.defects),
        "goods": _plain(found.goods),
    }


def _plain(flips: Flips) -> dict[str, Any]:
    return {
        name: None
        if isinstance(value := np.asarray(one).item(), float) and np.isnan(value)
        else value
        for name, one in asdict(flips).items()
    }
