"""A process that runs a ``ray.cluster_utils.Cluster`` for a test, started with ``python -m``.

It reads and writes JSON lines: {"add": CPUS} returns {"node", "raylet"} (id and pid), {"remove": NODE} ends the rest of
a node. The first output line has the address and the head's node. At the end of its input it ends the cluster.
"""

import json
import sys
from typing import Any

from ray.cluster_utils import Cluster


def _facts(node: Any) -> dict[str, Any]:
    (raylet,) = node.all_processes["raylet"]
    return {"node": node.node_id, "raylet": raylet.process.pid}


def _say(**facts: Any) -> None:
    print(json.dumps(facts), file=sys.__stdout__, flush=True)


def main(head_cpus: int) -> None:
    cluster = Cluster(
        initialize_head=True,
        head_node_args={"num_cpus": head_cpus, "include_dashboard": False, "include_log_monitor": False},
    )
    head: Any = cluster.head_node
    nodes = {head.node_id: head}
    _say(address=cluster.address, **_facts(head))
    for line in sys.stdin:
        command = json.loads(line)
        if "add" in command:
            node = cluster.add_node(num_cpus=command["add"])
            nodes[node.node_id] = node
            _say(**_facts(node))
        else:
            cluster.remove_node(nodes.pop(command["remove"]), allow_graceful=False)
            _say(removed=command["remove"])
    cluster.shutdown()  # type: ignore[no-untyped-call]  # untyped in Ray


if __name__ == "__main__":
    main(int(sys.argv[1]))
