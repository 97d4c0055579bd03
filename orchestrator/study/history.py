"""The studies recorded in a results root by its launches. No torch."""

from jobs.errors import Code, DamagedFile, InvalidRequest
from jobs.results import Launch, Store, read_launches, recorded_studies
from jobs.results.studies import StudyRecord, launched_by, of_newer_version
from jobs.study.expand import expand
from jobs.study.model import Study, unknown_sections
from jobs.system import safe_yaml
from jobs.system.commands import command
from jobs.system.printable import listing, shown
from orchestrator.study.load import parse_study


def recorded_study(store: Store, name: str | None) -> Study:
    """Return the study of the latest launch, or of the latest launch of ``name``, as resolved at that time.

    Raises:
        InvalidRequest: if the root has no such launch.
    """
    launches = read_launches(store)
    if not launches:
        raise InvalidRequest(
            Code.NO_ROOT,
            f"{store.uri} has no launches. Fix: start one with {command('launch', 'STUDY', '--results', store.uri)}",
            file=store.uri,
            key="--results",
        )
    matching = [launch for launch in launches if name in (None, launch.study)]
    if not matching:
        known = listing(sorted({launch.study for launch in launches}))
        raise InvalidRequest(
            Code.UNKNOWN_NAME,
            f"{store.uri} has no launch of a study {shown(name)}; it has: {known}",
            file=store.uri,
            key="--study",
        )
    return _study_of(store, matching[-1])


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
