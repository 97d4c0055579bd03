"""Hosts on this machine: network namespaces on a bridge, each with its own processes, /tmp, home and sshd.

Needs root, iproute2, util-linux and openssh-server. Nothing outside the bridge is reachable, and nothing on the machine
is changed except the bridge and the namespaces, which ``Network.end`` removes.
"""

import os
import re
import secrets
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

from tests.durability.processes import Process, alive, descendants, kill, wait_until

REPOSITORY = Path(__file__).parents[2]
MISSING = [
    tool for tool in ("ip", "unshare", "nsenter", "ssh", "ssh-keygen", "rsync", "curl") if shutil.which(tool) is None
]
if not Path("/usr/sbin/sshd").exists():
    MISSING.append("sshd")

_INIT = """
set -e
hostname {name}
mount --make-rprivate /
{mounts}
mount --bind {folder}/run /run/sshd
exec /usr/sbin/sshd -D -e -h {keys}/host -o AuthorizedKeysFile={keys}/user.pub -o StrictModes=no -o PidFile=none \
  -o PermitRootLogin=yes -o PasswordAuthentication=no -o UsePAM=no
"""


class Network:
    """A new bridge with an address on this machine, and its hosts."""

    def __init__(self, folder: Path, shared: Path) -> None:
        """
        Args:
            folder: Files of the hosts; not in /tmp or root's home, because each host has its own.
            shared: A folder that every host sees at the same path.
        """
        self.folder, self.shared = folder, shared
        self.tag = secrets.token_hex(2)
        self.subnet = _free_subnet()
        self.address = f"{self.subnet}.1"
        self.bridge = f"dsb{self.tag}"
        self.hosts: list[Host] = []
        self.keys = folder / "keys"
        self.keys.mkdir(parents=True)
        Path("/run/sshd").mkdir(exist_ok=True)
        for name in ("host", "user"):
            run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(self.keys / name))
        run("ip", "link", "add", self.bridge, "type", "bridge")
        run("ip", "address", "add", f"{self.address}/24", "dev", self.bridge)
        run("ip", "link", "set", self.bridge, "up")

    def add(self, name: str) -> "Host":
        """Add a host, switched off."""
        host = Host(self, name, len(self.hosts) + 11)
        self.hosts.append(host)
        return host

    def end(self) -> None:
        for host in self.hosts:
            host.kill()
            run("ip", "netns", "del", host.namespace)
        run("ip", "link", "del", self.bridge)


class Host:
    """One host; while it is on, all of its processes are descendants of ``process``."""

    def __init__(self, network: Network, name: str, number: int) -> None:
        self.name = name
        self.address = f"{network.subnet}.{number}"
        self.namespace = f"ds{network.tag}-{name}"
        self._network = network
        self._link = f"ds{network.tag}-{number}"
        self._process: Process | None = None
        self._folder = network.folder / name
        self.home = self._folder / "home"
        for part in ("home", "tmp", "run"):
            (self._folder / part).mkdir(parents=True)
        run("ip", "netns", "add", self.namespace)
        run("ip", "link", "add", self._link, "type", "veth", "peer", "name", "eth0", "netns", self.namespace)
        run("ip", "link", "set", self._link, "master", network.bridge, "up")
        for command in (f"address add {self.address}/24 dev eth0", "link set eth0 up", "link set lo up"):
            run("ip", "-n", self.namespace, *command.split())

    def start(self) -> None:
        """Switch the host on with an empty /tmp; return when login is possible."""
        for part in ("tmp", "run"):
            shutil.rmtree(self._folder / part)
            (self._folder / part).mkdir(mode=0o1777 if part == "tmp" else 0o755)
        with (self._folder / "sshd.log").open("ab") as log:
            unshare = subprocess.Popen(
                [
                    *("ip", "netns", "exec", self.namespace),
                    *("unshare", "--pid", "--fork", "--kill-child", "--mount", "--uts", "--mount-proc"),
                    *("sh", "-c", self._init()),
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self._unshare = unshare
        wait_until(lambda: unshare.poll() is not None or self._answers(), f"{self.name} is up", 30)
        assert unshare.poll() is None, (self._folder / "sshd.log").read_text()
        self._process = next(p for p in descendants(unshare.pid) if p.parent == unshare.pid)

    @property
    def on(self) -> bool:
        return self._process is not None and alive(self._process)

    def family(self) -> list[Process]:
        """Return the living processes of this host, with their pids on the machine."""
        return descendants(self._unshare.pid) if self.on else []

    def kill(self) -> None:
        """Simulate the loss of a machine: kill -9 of the first process of its pid namespace, which kills them all."""
        if self._process is None:
            return
        family = self.family()
        kill(self._process)
        self._unshare.wait()
        wait_until(lambda: not any(map(alive, family)), f"the processes of {self.name} ended", 60)
        self._process = None

    def cut(self) -> None:
        """Cut the network connection."""
        run("ip", "link", "set", self._link, "down")

    def mend(self) -> None:
        run("ip", "link", "set", self._link, "up")

    def inside(self) -> tuple[str, ...]:
        """The command prefix that runs a command on this host, in its home."""
        assert self._process is not None
        return (
            *("nsenter", "--target", str(self._process.pid), "--net", "--mount", "--pid", "--uts"),
            *("env", "--chdir", str(Path.home())),
        )

    def _answers(self) -> bool:
        return self._ssh("true").returncode == 0

    def _ssh(self, command: str) -> subprocess.CompletedProcess[bytes]:
        options = ("StrictHostKeyChecking=no", "UserKnownHostsFile=/dev/null", "LogLevel=ERROR", "ConnectTimeout=2")
        return subprocess.run(
            [
                *("ssh", "-i", str(self._network.keys / "user")),
                *(part for option in options for part in ("-o", option)),
                *(f"root@{self.address}", command),
            ],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=30,
            check=False,
        )

    def _init(self) -> str:
        """Return the script of the first process.

        It mounts needed folders of the machine that are below /tmp or the home into the host's own.
        """
        home = Path.home()
        mounts = []
        for own, place in ((self.home, home), (self._folder / "tmp", Path("/tmp"))):
            kept = {REPOSITORY, Path(sys.prefix), Path(sys.base_prefix)}
            for path in sorted(path for path in kept if path.is_relative_to(place)):
                under = own / path.relative_to(place)
                mounts.append(f"mkdir -p {shlex.quote(str(under))}")
                mounts.append(f"mount --bind {shlex.quote(str(path))} {shlex.quote(str(under))}")
            mounts.append(f"mount --rbind {shlex.quote(str(own))} {place}")
        return _INIT.format(name=self.name, mounts="\n".join(mounts), folder=self._folder, keys=self._network.keys)


def namespaces_are_allowed() -> bool:
    """Return whether this machine allows network, mount and process namespaces, and a bridge between them."""
    bridge = "ip link add dsbprobe type bridge"
    command = ["unshare", "--net", "--mount", "--pid", "--uts", "--fork", *bridge.split()]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def run(*command: str) -> str:
    """Run a command that must succeed and return its output."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{shlex.join(command)}: {done.stdout}{done.stderr}"
    return done.stdout


def _free_subnet() -> str:
    """Return the first three numbers of a /24 that no interface of this machine uses."""
    taken = set(re.findall(r"\b10\.77\.(\d+)\.", run("ip", "-4", "-o", "address")))
    return next(f"10.77.{number}" for number in range(os.getpid() % 200, 255) if str(number) not in taken)
