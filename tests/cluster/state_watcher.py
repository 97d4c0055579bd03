"""Run on a test cluster's head and print the output of Ray's state API, one JSON line per poll, until killed.

Each line has the fields of ``tests.cluster.ray_cluster.Look``.
"""

import json
import sys
import time

from ray.util.state import StateApiClient
from ray.util.state.common import ListApiOptions, StateResource
from ray.util.state.exception import RayStateApiException

DASHBOARD = "http://127.0.0.1:8265"
PAUSE_SECONDS = 0.5


def look(client: StateApiClient) -> dict[str, object]:
    """Return the living workers, and the living trial actors on each."""
    alive = ListApiOptions(limit=10_000, detail=True, filters=[("state", "=", "ALIVE")])
    nodes = client.list(StateResource.NODES, alive, raise_on_missing_output=False)
    actors = client.list(StateResource.ACTORS, alive, raise_on_missing_output=False)
    trials = [actor for actor in actors if actor["placement_group_id"]]  # Tune gives each trial's actor a group
    workers = {node["node_id"]: node["node_ip"] for node in nodes if not node["is_head_node"]}
    on_each = {node: [actor["actor_id"] for actor in trials if actor["node_id"] == node] for node in workers}
    return {"nodes": workers, "actors": on_each}


def main() -> None:
    client = None
    while True:
        try:
            client = client or StateApiClient(DASHBOARD)
            print(json.dumps(look(client)), flush=True)
        except (RayStateApiException, ConnectionError) as error:  # the dashboard takes seconds to start
            print(repr(error)[:300], file=sys.stderr, flush=True)
        time.sleep(PAUSE_SECONDS)


if __name__ == "__main__":
    main()
