#!/bin/sh
# Installs the SSN Inspect agent from this folder alone: no network, no pip, no compiler. As root:
#     sh install.sh [PREFIX]
# PREFIX is /opt/ssn-agent where it is not given. Needs the Python that the folder was made for.
# With DESTDIR in the environment it lies below that folder, and knows itself as PREFIX: for packages.
set -eu
here=$(CDPATH= cd -- "$(dirname -- "$0")" && pwd)
prefix=${1:-/opt/ssn-agent}
prefix=${prefix%/} # or it would be made inside itself
place=${DESTDIR:-}$prefix
umask 022 # what root alone may read the service could not run
# shellcheck source=/dev/null
. "$here/target"

fail() {
    echo "install.sh: $1" >&2
    exit 1
}

[ "$(uname -m)" = "$MACHINE" ] || fail "this folder is for $MACHINE, this machine is $(uname -m); bring the one for it"
python=$(command -v "python$PYTHON") || fail "there is no python$PYTHON here; install it, or bring the folder for the version that is here"
[ ! -e "$place" ] || fail "$place is there already; move it away (systemctl stop ssn-agent; mv $place $place.old), and run this again"
(cd "$here" && sha256sum --check --quiet --strict SHA256SUMS) || fail "files of this folder are damaged or missing; bring it here again"

# Beside its place, and moved when it is whole: what is cut off leaves nothing behind that runs.
trap 'rm -rf "$place.new"' EXIT
rm -rf "$place.new"
"$python" -m venv --without-pip "$place.new"
PYTHONPATH=$(echo "$here"/wheels/pip-*.whl) "$python" -m pip --python "$place.new/bin/python" \
    install --quiet --disable-pip-version-check --no-index --no-deps --no-compile --require-hashes \
    --find-links "$here/wheels" --requirement "$here/requirements.txt"
# Programs name their interpreter by its path: by the one that it will have. Not the interpreter's own
# names: they are links, which sed would make copies.
find "$place.new/bin" "$place.new/pyvenv.cfg" -type f -exec sed -i "s|$place.new|$prefix|g" {} +
mv "$place.new" "$place"
# The service's user could not. Some of them are templates. Tracebacks name the place to be.
"$python" -m compileall -q -j 0 -s "${DESTDIR:-/}" -p / "$place/lib" || true
"$place/bin/python" -I "$place/bin/ssn-agent" --version
echo "installed into $place; docs/operations.md says how to go on (user, units, settings)"
