#!/bin/sh
# Installs what the tests need from the system, where this user may. Where not, those tests skip and
# say so, unless SSN_REQUIRE_ALL is set. Packages that are named are installed beside.
set -u
wanted="mosquitto mosquitto-clients strace systemd systemd-container"
wanted="$wanted libaravis-0.8-0 aravis-tools" # GigE Vision cameras, and one to test against
wanted="$wanted debhelper" # builds the Debian package
wanted="$wanted $*"
missing=""
for package in $wanted; do
    dpkg -s "$package" >/dev/null 2>&1 || missing="$missing $package"
done
promtool=""
command -v promtool >/dev/null || promtool=" promtool"
[ -n "$missing$promtool" ] || exit 0
if [ "$(id -u)" = 0 ]; then
    sudo=""
elif sudo -n true 2>/dev/null; then
    sudo="sudo"
else
    echo "not installed, and not ours to install:$missing$promtool" >&2
    exit 0
fi
export DEBIAN_FRONTEND=noninteractive
$sudo apt-get update -qq >/dev/null
# shellcheck disable=SC2086 # the list is meant to be split
if [ -n "$missing" ] && ! $sudo apt-get install -y -qq --no-install-recommends $missing >/dev/null; then
    echo "could not be installed:$missing" >&2
fi
# Debian starts the broker as a service; the tests start their own.

# Of Debian's Prometheus this program alone: the package would start a server that asks and stores.
if [ -n "$promtool" ]; then
    folder=$(mktemp -d)
    if ! { cd "$folder" && apt-get download -qq prometheus && dpkg-deb -x prometheus_*.deb . &&
        $sudo install -m 755 usr/bin/promtool /usr/local/bin/promtool; } >/dev/null 2>&1; then
        echo "could not be installed: promtool" >&2
    fi
    rm -r "$folder"
fi
exit 0
