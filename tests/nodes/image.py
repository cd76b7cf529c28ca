"""The root file system that all nodes share, built once and kept outside the repository.

The rule: an image is complete or absent, and never changes. It is built beside its place under a lock and then renamed; what
goes into it decides its name. A node is the same release of Debian (or Ubuntu) as this machine, from the mirror that this
machine's own apt uses.
"""

from __future__ import annotations

import fcntl
import hashlib
import platform
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

CACHE = Path("/var/cache/tilefleet-tests")
USER = "ec2-user"
BUILD_TIMEOUT_S = 600
_PACKAGES = (
    "systemd", "systemd-sysv", "dbus", "openssh-server", "sudo", "iproute2", "python3", "python3-venv", "curl",
    "ca-certificates",
)  # fmt: skip
_EXCLUDED = ("/usr/share/doc/*", "/usr/share/man/*", "/usr/share/locale/*", "/usr/share/info/*")

# What cannot work in a container, or wakes up by itself; with it systemd would say "degraded" or disturb a measurement.
_MASKED = (
    "console-getty.service", "container-getty@.service", "getty@.service", "getty.target", "e2scrub_reap.service",
    "e2scrub_all.timer", "fstrim.timer", "apt-daily.timer", "apt-daily-upgrade.timer", "dpkg-db-backup.timer",
    "motd-news.timer", "systemd-pstore.service", "systemd-networkd.service", "systemd-resolved.service",
    "systemd-networkd-wait-online.service", "systemd-timesyncd.service", "sys-kernel-debug.mount",
    "sys-kernel-tracing.mount",
)  # fmt: skip

# Keys, names and addresses are each node's own (machines.py). The node needs no source of packages: it has no internet.
_FINISH = f"""
set -eu
chroot "$1" useradd --create-home --shell /bin/bash {USER}
echo '{USER} ALL=(ALL) NOPASSWD:ALL' >"$1/etc/sudoers.d/{USER}"
chmod 440 "$1/etc/sudoers.d/{USER}"
printf 'UseDNS no\\nHostKey /etc/ssh/ssh_host_ed25519_key\\n' >"$1/etc/ssh/sshd_config.d/nodes.conf"
systemctl --root="$1" --quiet mask {" ".join(_MASKED)}
rm -f "$1"/etc/ssh/ssh_host_* "$1"/etc/resolv.conf
rm -rf "$1"/etc/apt/sources.list "$1"/etc/apt/sources.list.d
"""


_OPTIONS = (
    "--mode=root", "--variant=minbase", "--format=directory", "--keyring=/usr/share/keyrings",
    *(f"--dpkgopt=path-exclude={path}" for path in _EXCLUDED),
    f"--include={','.join(_PACKAGES)}",
    f"--customize-hook={_FINISH}",
)  # fmt: skip


def node_image() -> Path:
    """The directory with the root file system; builds it when this machine has none (half a minute)."""
    system = platform.freedesktop_os_release()
    release = system["VERSION_CODENAME"]
    image = CACHE / f"node-image-{release}-{_hash([release, *_OPTIONS])}"
    CACHE.mkdir(parents=True, exist_ok=True)
    with _locked(CACHE / "node-image.lock"):
        if not image.is_dir():
            _build(release, image, _sources(system["ID"].capitalize()))
    return image


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _hash(recipe: Sequence[str]) -> str:
    return hashlib.sha256("\0".join(recipe).encode()).hexdigest()[:12]


def _build(release: str, image: Path, sources: str) -> None:
    partial = image.with_suffix(".partial")
    subprocess.run(["rm", "-rf", "--one-file-system", partial], check=True)
    command = ["mmdebstrap", *_OPTIONS, *_proxies(), release, str(partial), "-"]
    done = subprocess.run(command, check=False, input=sources, text=True, capture_output=True, timeout=BUILD_TIMEOUT_S)
    if done.returncode != 0:
        raise RuntimeError(f"mmdebstrap could not build the nodes' root file system: {done.stderr[-3000:]}")
    partial.rename(image)


def _sources(origin: str) -> str:
    """Where this machine's apt gets its own release from, without what others publish for it."""
    line = "deb $(REPO_URI) $(RELEASE) $(COMPONENT)"
    command = ["apt-get", "indextargets", "--format", line, "Created-By: Packages", f"Origin: {origin}"]
    sources = _output(command)
    if not sources:  # the origin is known only of lists that are here
        _output(["apt-get", "update"])
        sources = _output(command)
    return sources


def _proxies() -> list[str]:
    dump = ["apt-config", "dump", "--no-empty", "--format", '%F "%v";%n', "Acquire::http::Proxy", "Acquire::https::Proxy"]
    return [f"--aptopt={line}" for line in _output(dump).splitlines()]


def _output(command: Sequence[str]) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=BUILD_TIMEOUT_S).stdout
