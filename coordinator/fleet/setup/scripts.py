"""The shell of each step, in POSIX sh.

The rule: a script may be run any number of times, and again after it was cut off anywhere; when its work is done it only looks.
What it makes it first writes into a list, which ``undo`` goes by. Values never become shell but through ``quote``; secrets come
on standard input, as everybody on a machine can read command lines.
"""

from __future__ import annotations

from shlex import quote

from coordinator.fleet.records import Role
from coordinator.fleet.setup.materials import Interpreter, Release, Wheelhouse
from coordinator.fleet.setup.places import CACHE, LINK, PYTHONS, RELEASES, SETTINGS, STATE, UNITS

MADE = f"{SETTINGS}/made"
KEPT_RELEASES = 3  # what runs, what ran before, and what is being installed

# making PATH…: notes what is about to be made, unless somebody else made it before.
_MAKING = f"""
set -eu
making() {{
  mkdir -p {SETTINGS}
  for path; do
    if [ ! -e "$path" ] && [ ! -L "$path" ] && ! grep -qxF -- "$path" {MADE} 2>/dev/null; then printf '%s\\n' "$path" >>{MADE}; fi
  done
}}
"""

PREPARE_UPLOAD = f"""{_MAKING}
making {CACHE}
mkdir -p {CACHE}
chmod 700 {CACHE}
"""

CLOUD_INIT = """
if ! command -v cloud-init >/dev/null; then exit 0; fi
cloud-init status --wait >/dev/null || status=$?
if [ "${status:-0}" = 1 ]; then cloud-init status --long; exit 1; fi  # 2: done, with warnings
"""


def daemon(role: Role) -> str:
    """Name of the unit and of the program of a role."""
    return "workerd" if role == "worker" else "coordinator"


def unpack_python(interpreter: Interpreter, remote: str) -> str:
    """A Python of our own under its version, from an archive that was uploaded."""
    target = f"{PYTHONS}/{interpreter.version}"
    return f"""{_MAKING}
if {target}/bin/python3 -c '' 2>/dev/null; then exit 0; fi
making {PYTHONS}
mkdir -p {PYTHONS}
rm -rf {PYTHONS}/partial
mkdir {PYTHONS}/partial
tar -xzf {quote(remote)} -C {PYTHONS}/partial
{PYTHONS}/partial/python/bin/python3 -c 'import ctypes, ssl, venv'
rm -rf {target}
mv {PYTHONS}/partial/python {target}
rm -rf {PYTHONS}/partial {quote(remote)}
"""


# The way out where no interpreter could be brought along: the system's own packages, from its mirrors.
INSTALL_PYTHON = """
set -eu
if command -v dnf >/dev/null; then
  for version in 3.13 3.12 3.11; do dnf -q -y install "python$version" && exit 0; done
elif command -v apt-get >/dev/null; then
  export DEBIAN_FRONTEND=noninteractive
  apt-get -q -o DPkg::Lock::Timeout=120 update
  for version in 3.13 3.12 3.11; do
    if apt-get -q -y -o DPkg::Lock::Timeout=120 install --no-install-recommends "python$version-venv"; then exit 0; fi
  done
fi
echo 'neither dnf nor apt-get could install Python 3.11 or newer'
exit 1
"""


def install_packages(release: Release, wheelhouse: Wheelhouse, python: str) -> str:
    """A virtual environment of the release: complete, or not there. Standard input: its requirements.

    Where a release with the same dependencies is, they are shared with it (hard links), and only tilefleet is new.
    """
    base, own = quote(f"{RELEASES}/{release.version}"), quote(f"{CACHE}/{release.wheel.name}")
    source, unpack, wheels = "--only-binary=:all:", "", CACHE
    if wheelhouse.archive:
        wheels = f"{CACHE}/wheels-{wheelhouse.digest[:16]}"
        source = f"--isolated --no-index --find-links={wheels}"
        unpack = _unpack(wheels, f"{CACHE}/{wheelhouse.archive.name}", python)
    return f"""{_MAKING}
base={base}
digest={wheelhouse.digest}
if [ -f "$base/.complete" ] && "$base/bin/python" -c '' 2>/dev/null; then exit 0; fi
making {RELEASES}
mkdir -p {RELEASES}
rm -rf "$base" "$base.partial"
install() {{
  $1 install --quiet --no-input --disable-pip-version-check --no-cache-dir --root-user-action=ignore \
    --no-deps --require-hashes --no-compile {source} -r "$base/requirements.txt"
}}
for other in {RELEASES}/*/; do
  other=${{other%/}}
  if [ "$(cat "$other/.complete" 2>/dev/null)" = $digest ] && "$other/bin/python" -c '' 2>/dev/null; then
    cp -al "$other" "$base.partial"
    rm "$base.partial/.complete" "$base.partial/requirements.txt"
    mv "$base.partial" "$base"
    for program in $base/bin/*; do
      if [ ! -L "$program" ]; then sed -i "1s|^#!$other/|#!$base/|" "$program"; fi
    done
    cat >"$base/requirements.txt"
    "$base/bin/python" -m pip uninstall --quiet --yes --disable-pip-version-check --root-user-action=ignore tilefleet
    break
  fi
done
if [ ! -d "$base" ]; then
{unpack}
  {quote(python)} -m venv --without-pip "$base"
  cat >"$base/requirements.txt"
fi
printf '%s --hash=sha256:%s\n' {own} {release.digest} >>"$base/requirements.txt"
if [ -f {wheels}/{wheelhouse.pip} ]; then
  install "$base/bin/python {wheels}/{wheelhouse.pip}/pip"
else
  install "$base/bin/python -m pip"
fi
"$base/bin/python" - <<'EOF'
{_IMPORT_ALL}
EOF
printf '%s\n' $digest >"$base/.complete"
rm -rf {CACHE}/wheels-* {own}
"""


# Proves that the daemons' modules find what they need on this machine, and leaves byte code of just what is used: a third of
# the time that compiling everything takes. The daemons cannot write it later, as their sandbox is read-only.
_IMPORT_ALL = """
import importlib
import pkgutil

for top in ("tilefleet", "workerd", "coordinator.core", "coordinator.runtime"):
    for module in pkgutil.walk_packages(importlib.import_module(top).__path__, top + "."):
        importlib.import_module(module.name)
for late in ("coordinator.daemon", "aioboto3", "asyncssh", "google_crc32c", "numpy", "obstore.store", "psutil", "pyarrow.csv",
             "scipy.linalg", "threadpoolctl", "zarr.storage"):
    importlib.import_module(late)
"""


def _unpack(wheels: str, archive: str, python: str) -> str:
    return f"""
  if [ ! -f {wheels}/.complete ]; then
    rm -rf {CACHE}/wheels-*
    mkdir -p {wheels}
    {quote(python)} -m tarfile -e {quote(archive)} {wheels}
    touch {wheels}/.complete
  fi
  rm -f {quote(archive)}
"""


def install_dead_man(sizes: tuple[int, int, int], dead_man_s: int, lifetime_s: int) -> str:
    """The switch that powers the machine off. Standard input: script, service, timer, of these sizes."""
    program, environment = "/usr/local/sbin/tilefleet-deadman", f"{SETTINGS}/deadman.env"
    service, timer = f"{UNITS}/tilefleet-deadman.service", f"{UNITS}/tilefleet-deadman.timer"
    limits = f"DEAD_MAN_S={dead_man_s}\\nLIFETIME_S={lifetime_s}\\n"
    is_off = "true" if dead_man_s == lifetime_s == 0 else "false"
    return f"""{_MAKING}
if {is_off} && [ ! -f {environment} ]; then exit 0; fi
making {program} {environment} {service} {timer} {STATE}-deadman
mkdir -p /usr/local/sbin
head -c {sizes[0]} >{program}.new
head -c {sizes[1]} >{service}.new
head -c {sizes[2]} >{timer}.new
for path in {program} {service} {timer}; do mv $path.new $path; done
printf '{limits}' >{environment}.new
mv {environment}.new {environment}
systemctl daemon-reload
systemctl --quiet enable --now tilefleet-deadman.timer
"""


USER = f"""{_MAKING}
if id -u tilefleet >/dev/null 2>&1; then exit 0; fi
mkdir -p {SETTINGS}
echo user:tilefleet >>{MADE}
if command -v useradd >/dev/null; then
  useradd --system --user-group --no-create-home --home-dir {STATE} --shell /usr/sbin/nologin tilefleet
else
  printf 'u tilefleet - "tilefleet daemons" {STATE}\\n' | systemd-sysusers -
fi
"""


def write_settings(role: Role, settings_bytes: int, environment_bytes: int) -> str:
    """Standard input: the settings, then the environment, where there is one. What was there before is kept beside it."""
    settings, environment = f"{SETTINGS}/{daemon(role)}.toml", f"{SETTINGS}/environment"
    keep = f"""
keep() {{  # NEW PATH: puts NEW there; what was there, and differs, becomes PATH.before
  if [ -f "$2" ] && [ "$(cat "$2")" = "$(cat "$1")" ]; then rm "$1"; return; fi
  making "$2"
  if [ -f "$2" ]; then cp -p "$2" "$2.before"; fi
  mv "$1" "$2"
}}
mkdir -p {SETTINGS}
chmod 755 {SETTINGS}
(umask 022; head -c {settings_bytes} >{settings}.new)
keep {settings}.new {settings}
"""
    if not environment_bytes:
        return _MAKING + keep
    return f"""{_MAKING}{keep}
(umask 077; head -c {environment_bytes} >{environment}.new)
keep {environment}.new {environment}
"""


def restore_settings(role: Role) -> str:
    """What ``write_settings`` replaced comes back."""
    return f"""
set -eu
for path in {SETTINGS}/{daemon(role)}.toml {SETTINGS}/environment; do
  if [ -f "$path.before" ]; then mv "$path.before" "$path"; fi
done
"""


def install_units(role: Role, release: str, systemd: int, for_node: dict[str, str]) -> str:
    """The unit as the release itself has it, with drop-ins for this node; enabled."""
    unit = f"{daemon(role)}.service"
    directory = f"{UNITS}/{unit}.d"
    lines = quote("".join(["[Service]\n", *(f"{key}={value}\n" for key, value in for_node.items())]))
    backoff = f'cp "$source/backoff.conf" {directory}/backoff.conf' if systemd >= 254 else ""
    return f"""{_MAKING}
source=$(echo {quote(f"{RELEASES}/{release}")}/lib/python3.*/site-packages/coordinator/fleet/systemd)
making {UNITS}/{unit} {directory} {STATE}
cp "$source/{unit}" {UNITS}/{unit}
mkdir -p {directory}
printf '%s' {lines} >{directory}/node.conf
{backoff}
systemctl daemon-reload
systemctl --quiet enable {unit}
"""


def switch(release: str) -> str:
    """From now on the daemon starts this release."""
    target = quote(f"{RELEASES}/{release}")
    return f"""{_MAKING}
if [ "$(readlink {LINK} || true)" = {target} ]; then exit 0; fi
if [ -e {LINK} ] && [ ! -L {LINK} ]; then echo '{LINK} is there and is not ours: move it away'; exit 1; fi
making {LINK}
ln -sfn {target} {LINK}.new
mv -T {LINK}.new {LINK}
"""


def start(role: Role, stamp: str) -> str:
    """Until systemd has its READY. ``stamp`` names all that was set up: a daemon that runs with it is left alone."""
    unit, stamped = f"{daemon(role)}.service", f"{SETTINGS}/{daemon(role)}.started"
    return f"""
set -u
if systemctl --quiet is-active {unit} && [ "$(cat {stamped} 2>/dev/null)" = {quote(stamp)} ]; then exit 0; fi
rm -f {stamped}
began=$(date '+%Y-%m-%d %H:%M:%S')
systemctl reset-failed {unit} 2>/dev/null
if ! systemctl restart {unit}; then
  journalctl --no-pager --output=cat --unit={unit} --since="$began" --lines=12
  exit 1
fi
echo {quote(stamp)} >{stamped}
rm -f {SETTINGS}/*.before
{_FORGET_OLD}"""


def start_again(role: Role) -> str:
    """What was drained, as it was set up."""
    unit = f"{daemon(role)}.service"
    return f"""
began=$(date '+%Y-%m-%d %H:%M:%S')
if systemctl start {unit}; then exit 0; fi
journalctl --no-pager --output=cat --unit={unit} --since="$began" --lines=12
exit 1
"""


# What runs stays, and the newest of the others.
_FORGET_OLD = f"""
count=0
for complete in $(ls -t {RELEASES}/*/.complete); do
  count=$((count + 1))
  base=$(dirname "$complete")
  if [ $count -ge {KEPT_RELEASES} ] && [ "$(readlink {LINK})" != "$base" ]; then rm -rf "$base"; fi
done
exit 0
"""


def stop(role: Role, unless: str = "") -> str:
    """Drain: systemd sends SIGTERM and waits as long as the unit says. A daemon that runs with the stamp is left alone."""
    unit, stamped = f"{daemon(role)}.service", f"{SETTINGS}/{daemon(role)}.started"
    return f"""
if [ "$(systemctl show --property=LoadState --value {unit})" = not-found ]; then exit 0; fi
if systemctl --quiet is-active {unit} && [ "$(cat {stamped} 2>/dev/null)" = {quote(unless)} ]; then exit 0; fi
rm -f {stamped}
systemctl stop {unit}
"""


def undo(role: Role) -> str:
    """Remove what was made. Where the other role's daemon is on the machine too, only this one's own goes; both at once take
    turns. Units first; then what the list names, the newest first, and the list's own directory at the end."""
    own = daemon(role)
    other = daemon("coordinator" if role == "worker" else "worker")
    mine = f"{UNITS}/{own}.service {UNITS}/{own}.service.d {SETTINGS}/{own}.toml"
    key = f"rm -rf {STATE}/.local" if role == "coordinator" else ":"  # the keeper's
    return f"""
if [ ! -d {SETTINGS} ]; then exit 0; fi
exec 9<{SETTINGS}
if command -v flock >/dev/null; then flock 9; fi
if [ ! -f {MADE} ]; then exit 0; fi
is_made() {{ grep -qxF -- "$1" {MADE}; }}
remove() {{ if [ -e "$1" ] || [ -L "$1" ]; then rm -rf -- "$1" && echo "$1"; fi; }}
if is_made {UNITS}/{own}.service; then systemctl disable --now --quiet {own}.service 2>&1 || true; fi
if is_made {UNITS}/{other}.service; then
  for entry in {mine}; do
    if is_made "$entry"; then remove "$entry"; grep -vxF -- "$entry" {MADE} >{MADE}.new; mv {MADE}.new {MADE}; fi
  done
  rm -f {SETTINGS}/{own}.toml.before {SETTINGS}/{own}.started
  {key}
  systemctl daemon-reload
  exit 0
fi
if is_made {UNITS}/tilefleet-deadman.timer; then systemctl disable --now --quiet tilefleet-deadman.timer 2>&1 || true; fi
list=$(cat {MADE})
reversed=
for entry in $list; do reversed="$entry $reversed"; done
for entry in $reversed; do
  case $entry in
    user:*) userdel "${{entry#user:}}" && echo "the user ${{entry#user:}}" ;;
    key:*)
      path=${{entry#*@}} material=${{entry#key:}} material=${{material%%@*}}
      if kept=$(grep -vF -- "$material" "$path"); then printf '%s\n' "$kept" >"$path"; else : >"$path"; fi
      ;;
    *) remove "$entry" ;;
  esac
done
rm -f {MADE} {SETTINGS}/*.before {SETTINGS}/*.started
rmdir {SETTINGS} 2>/dev/null
systemctl daemon-reload
exit 0
"""


def public_key(fleet: str) -> str:
    """Says the public half of the pair that the keeper of the coordinator here logs in to workers with; makes it if need be."""
    program = (
        "import sys; from coordinator.fleet.connections.keys import make_pair; from coordinator.fleet.files import FleetFiles; "
        "print(make_pair(FleetFiles(sys.argv[1]), sys.argv[1]))"
    )
    python = f"{LINK}/bin/python -P -c {quote(program)} {quote(fleet)}"
    return f"exec runuser -u tilefleet -- env -i HOME={STATE} PATH=/usr/bin:/bin {python}\n"


def admit(user: str) -> str:
    """Lets the holder of a key log in as a user. Standard input: the line of authorized_keys."""
    return f"""{_MAKING}
user={quote(user)}
home=$(getent passwd "$user" | cut -d: -f6)
keys=$home/.ssh/authorized_keys
line=$(cat)
if grep -qF -- "$line" "$keys" 2>/dev/null; then exit 0; fi
material=$(echo "$line" | cut -d' ' -f2)
mkdir -p {SETTINGS}
echo "key:$material@$keys" >>{MADE}
if [ ! -d "$home/.ssh" ]; then install -d -m 700 -o "$user" -g "$(id -gn "$user")" "$home/.ssh"; fi
if [ ! -e "$keys" ]; then install -m 600 -o "$user" -g "$(id -gn "$user")" /dev/null "$keys"; fi
if [ -s "$keys" ] && [ -n "$(tail -c 1 "$keys")" ]; then echo >>"$keys"; fi
echo "$line" >>"$keys"
"""
