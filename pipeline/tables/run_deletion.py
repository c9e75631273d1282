"""Deleting runs: a plan that says what would go, and a deletion that a kill can't spoil."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from pipeline.errors import InputError, RunError
from pipeline.tables import storage
from pipeline.tables.run_catalogue import IN_USE, Catalogue, RunEntry, locks
from pipeline.tables.run_files import list_files
from pipeline.tables.run_needs import StoreNeeds, bundle_name
from pipeline.tables.runs import RunPlaces


@dataclass(frozen=True)
class Step:
    """One thing that goes.

    Attributes:
        what: its name for people.
        path: a file or folder, relative to the store.
        files: how many files that is.
        bytes: their size.
    """

    what: str
    path: str
    files: int
    bytes: int


@dataclass(frozen=True)
class RunDeletion:
    """What deleting one run removes, in the order in which it goes.

    Attributes:
        run_id: the run.
        state: in which it is now.
        steps: what goes.
        remarks: what is worth knowing and hinders nothing.
    """

    run_id: str
    state: str
    steps: tuple[Step, ...]
    remarks: tuple[str, ...] = ()

    @property
    def bytes(self) -> int:
        """What becomes free."""
        return sum(step.bytes for step in self.steps)


@dataclass(frozen=True)
class DeletionPlan:
    """What would go, and what is kept.

    Attributes:
        store: the store.
        deletions: runs that go, those that need others before the others.
        kept: per run id, why it stays.
        absent: ids of which the store has nothing.
    """

    store: str
    deletions: tuple[RunDeletion, ...]
    kept: Mapping[str, tuple[str, ...]]
    absent: tuple[str, ...] = ()


def plan_deletion(
    catalogue: Catalogue, needs: StoreNeeds, run_ids: Sequence[str], *, force: bool = False
) -> DeletionPlan:
    """What deleting these runs would remove, and which of them something else needs.

    Args:
        catalogue: of the store.
        needs: of the store.
        run_ids: the runs that are to go.
        force: a lock doesn't keep a run: its process is known to be gone.
    """
    entries = {run_id: catalogue.find(run_id) for run_id in run_ids}
    going = {run_id: run for run_id, run in entries.items() if run is not None}
    kept: dict[str, tuple[str, ...]] = {}
    for run_id, run in list(going.items()):
        if run.state == IN_USE and not force:
            kept[run_id] = (_in_use(run),)
            del going[run_id]
    # What is kept keeps what it needs, which keeps what that needs.
    while found := {run_id: why for run_id in going if (why := _hindrances(run_id, going, needs))}:
        for run_id, why in found.items():
            kept[run_id] = tuple(why)
            del going[run_id]
    deletions = tuple(_deletion(catalogue, going[run_id], needs) for run_id in _order(going))
    absent = tuple(run_id for run_id, run in entries.items() if run is None)
    return DeletionPlan(catalogue.store, deletions, kept, absent)


def _in_use(run: RunEntry) -> str:
    lock = locks(run.run_id, run.files)[0]
    return (
        f"a process works on it ({lock}); wait for its end, or say force=true when it is known to "
        "be gone"
    )


def _hindrances(run_id: str, going: Mapping[str, RunEntry], needs: StoreNeeds) -> list[str]:
    """Why a run has to stay when the others in `going` go."""
    found = [need.says for need in needs.of(run_id) if need.by is None or need.by not in going]
    found += [
        f"{problem}; what it needs is not known: mend it or delete it first"
        for other, problem in needs.unknown.items()
        if other not in going
    ]
    return found


def _order(going: Mapping[str, RunEntry]) -> list[str]:
    """The ids, each run before the runs that it needs; a circle in the order of names."""
    left = dict(sorted(going.items()))
    order: list[str] = []
    while left:
        needed = {other for run in left.values() for other in run.needs}
        free = [run_id for run_id in left if run_id not in needed] or [next(iter(left))]
        order += free
        for run_id in free:
            del left[run_id]
    return order


def _deletion(catalogue: Catalogue, run: RunEntry, needs: StoreNeeds) -> RunDeletion:
    record, work = f"published/{run.run_id}.json", f"runs/{run.run_id}"
    folders: dict[str, dict[str, int]] = {}
    for path, size in run.files.items():
        place = path if path == record else _folder_of(path)
        folders.setdefault(place, {})[path] = size
    # First what makes the run visible, then its tables, then the record by which a deletion
    # that was cut off is found.
    order = sorted(folders, key=lambda place: (place != record, place == work, place))
    steps = [
        Step(_what(p, record, work), p, len(folders[p]), sum(folders[p].values())) for p in order
    ]
    name = bundle_name(run)
    if name is not None:
        files = list_files(storage.join(catalogue.store, "bundles", name))
        bundle = Step("the bundle that it made", f"bundles/{name}", len(files), sum(files.values()))
        steps[-1:-1] = [bundle] if files else []
    remarks = [
        f"{place} was made from it, and stays" for place in needs.made_from.get(run.run_id, ())
    ]
    return RunDeletion(run.run_id, run.state, tuple(steps), (*run.problems, *remarks))


def _folder_of(path: str) -> str:
    """The run's own folder that holds a file: up to the part with its id."""
    parts = path.split("/")
    if parts[0] == "runs":
        return "/".join(parts[:2])
    place = next(n for n, part in enumerate(parts) if part.startswith("run="))
    return "/".join(parts[: place + 1])


def _what(path: str, record: str, work: str) -> str:
    if path == record:
        return "the published record"
    if path == work:
        return "record and work in progress"
    first, second, *_ = path.split("/")
    return "kept counts" if first == "cells" else second


def delete(plan: DeletionPlan, done: Callable[[str], None]) -> None:
    """Does what a plan says, run by run; the same plan again finishes what was cut off.

    Args:
        plan: the plan.
        done: told the id of each run that is gone.

    Raises:
        RunError: something can't be removed; says what is gone and what isn't.
    """
    for number, deletion in enumerate(plan.deletions):
        try:
            with storage.errors_for(plan.store, "store"):
                _delete_run(plan.store, deletion)
        except (InputError, OSError) as error:
            left = ", ".join(d.run_id for d in plan.deletions[number:])
            raise RunError(
                f"run {deletion.run_id}: can't be deleted: {error}; not deleted, or not wholly: "
                f"{left}; the same command continues"
            ) from None
        done(deletion.run_id)


def _delete_run(store: str, deletion: RunDeletion) -> None:
    places = RunPlaces(store, deletion.run_id)
    work, marker = places.folder, places.deletion.rpartition("/")[2]
    storage.write_json(
        places.deletion, {"began_at": datetime.now(UTC).isoformat(timespec="seconds")}
    )
    for step in deletion.steps:
        uri = storage.join(store, step.path)
        if uri != work:
            storage.remove(uri)
    # The marker goes last: as long as a file is left, the run is known as one being deleted.
    fs, path = storage.filesystem(work)
    for name in sorted({name.partition("/")[0] for name in list_files(work)} - {marker}):
        storage.remove(storage.join(work, name))
    storage.remove(places.deletion)
    if not storage.is_remote(work) and fs.exists(path):
        storage.remove(work)


def refusal(plan: DeletionPlan) -> str | None:
    """Why a deletion by name can't be done, a line per run; None: it can."""
    lines = [f"run {run_id}: is kept: {'; '.join(why)}" for run_id, why in plan.kept.items()]
    if not plan.deletions and not lines:
        lines = [f"run {run_id}: isn't in the store {plan.store}" for run_id in plan.absent]
    return "\n".join(lines) or None
