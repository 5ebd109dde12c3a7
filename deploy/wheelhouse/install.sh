#!/bin/sh
# Installs the SSN Inspect agent from this folder alone: no network, no pip, no compiler. As root:
#     sh install.sh [PREFIX]
# PREFIX is /opt/ssn-agent where it is not given. Needs the Python that the folder was made for.
set -eu
here=$(CDPATH= cd -- "$(dirname -- "$0")" && pwd)
prefix=${1:-/opt/ssn-agent}
prefix=${prefix%/} # or it would be made inside itself
umask 022 # what root alone may read the service could not run
# shellcheck source=/dev/null
. "$here/target"

fail() {
    echo "install.sh: $1" >&2
    exit 1
}

[ "$(uname -m)" = "$MACHINE" ] || fail "this folder is for $MACHINE, this machine is $(uname -m); bring the one for it"
python=$(command -v "python$PYTHON") || fail "there is no python$PYTHON here; install it, or bring the folder for the version that is here"
[ ! -e "$prefix" ] || fail "$prefix is there already; move it away (systemctl stop ssn-agent; mv $prefix $prefix.old), and run this again"
(cd "$here" && sha256sum --check --quiet --strict SHA256SUMS) || fail "files of this folder are damaged or missing; bring it here again"

# Beside its place, and moved when it is whole: what is cut off leaves nothing behind that runs.
trap 'rm -rf "$prefix.new"' EXIT
rm -rf "$prefix.new"
"$python" -m venv --without-pip "$prefix.new"
# Installed programs name their interpreter by its path: by the one that it will have.
PYTHONPATH=$(echo "$here"/wheels/pip-*.whl) "$python" -m pip --python "$prefix.new/bin/python" \
    install --quiet --disable-pip-version-check --no-index --no-deps --no-compile --require-hashes \
    --find-links "$here/wheels" --requirement "$here/requirements.txt"
sed -i "1s|$prefix.new/|$prefix/|" "$prefix.new/bin/"*
sed -i "s|$prefix.new|$prefix|g" "$prefix.new/pyvenv.cfg"
mv "$prefix.new" "$prefix"
"$prefix/bin/python" -m compileall -q -j 0 "$prefix/lib" || true # the service's user could not; some of them are templates
"$prefix/bin/ssn-agent" --version
echo "installed into $prefix; docs/operations.md says how to go on (user, units, settings)"
