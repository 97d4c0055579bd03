"""The studies recorded in a results root. No torch."""

from jobs.errors import Code, DamagedFile, InvalidRequest
from jobs.results import Launch, Store, read_launches, recorded_studies
from jobs.results.studies import StudyRecord, launched_by, of_newer_version, unlaunched
from jobs.study.expand import expand
from jobs.study.model import Study, unknown_sections
from jobs.system import safe_yaml
from jobs.system.commands import command
from jobs.system.printable import listing, shown
from orchestrator.study.load import parse_study


def recorded_study(store: Store, name: str | None) -> Study:
    """Return the study of the latest launch, or of the latest launch of ``name``, as resolved at that time; without
    such a launch, the recorded study whose trials ran by themselves (``deltasweep run``).

    Raises:
        InvalidRequest: if the root has no such study, or has several and no launch.
    """
    launches = read_launches(store)
    if matching := [launch for launch in launches if name in (None, launch.study)]:
        return _study_of(store, matching[-1])
    records = unlaunched(recorded_studies(store), launches)
    found = [record for record in records if name in (None, record.name)]
    if len(found) != 1:
        raise _not_one(store, name, {launch.study for launch in launches}, records, found)
    return parse_recorded(store, found[0])


def _not_one(
    store: Store, name: str | None, launched: set[str], records: list[StudyRecord], found: list[StudyRecord]
) -> InvalidRequest:
    """Return the error for a root in which no launch or several records could be meant."""
    known = sorted(launched | {record.name for record in records})
    if not known:
        return InvalidRequest(
            Code.NO_ROOT,
            f"{store.uri} has no launches. Fix: start one with {command('launch', 'STUDY', '--results', store.uri)}",
            file=store.uri,
            key="--results",
        )
    names = sorted({record.name for record in found})
    if not names:
        message = f"{store.uri} has no study {shown(str(name))}; it has: {listing(known)}"
    elif len(names) > 1:
        message = f"{store.uri} has several studies and no launch: {listing(names)}. Fix: choose one with --study"
    else:
        message = (
            f"{store.uri} has {len(found)} versions of the study {shown(names[0])} and no launch that says which one "
            "is the newest. Fix: launch its file, or look at the trials of one file with "
            f"{command('trials', 'list', 'FILE', '--results', store.uri)}"
        )
    return InvalidRequest(Code.UNKNOWN_NAME, message, file=store.uri, key="--study")


def planned_trials(store: Store) -> set[str] | None:
    """Return the ids of all trials of all recorded studies, including their ids under older numerics.

    None if no study is recorded or one cannot be read, because it is then unknown which trials are unplanned.
    """
    try:
        records = recorded_studies(store)
        specs = [spec for record in records for spec in expand(parse_recorded(store, record))]
    except (DamagedFile, InvalidRequest):
        return None
    return {trial for spec in specs for trial in (spec.trial_id, *spec.older_ids)} if records else None


def parse_recorded(store: Store, record: StudyRecord) -> Study:
    """Return a recorded study as it was launched.

    Raises:
        DamagedFile: if a newer version wrote the record.
        InvalidRequest: if it has other mistakes.
    """
    place = _place(store, record.name, record.digest)
    try:
        return parse_study(record.text, place, recorded=True)
    except InvalidRequest as error:
        sections = unknown_sections(safe_yaml.load(record.text))  # of packages that are not installed
        keys = [one.place.key for one in error.mistakes if one.code is Code.UNKNOWN_KEY]
        unknown = [key for key in keys if key not in sections]
        if len(unknown) < len(error.mistakes):
            raise
        raise of_newer_version(place, unknown, launched_by(store, record.name, record.digest)) from error


def _place(store: Store, study: str, digest: str) -> str:
    return f"{store.uri}/studies/{study}/{digest}.yaml"


def _study_of(store: Store, launch: Launch) -> Study:
    for record in recorded_studies(store):
        if (record.name, record.digest) == (launch.study, launch.digest):
            return parse_recorded(store, record)
    raise InvalidRequest(
        Code.DAMAGED_RECORD,
        f"{store.uri}: launch {launch.launch} ran study {launch.study} in version {launch.digest}, which is no "
        "longer under studies/. Fix: launch the study's file again",
        file=_place(store, launch.study, launch.digest),
    )
