# shellcheck shell=sh
# Sourced by the other scripts: finds Python, and installs Debian packages that are missing.
# Nothing here touches the system's own Python packages, and apt is only called when something is missing.

# Install Debian packages, as root or through sudo.
debian_install() {
    if ! command -v apt-get >/dev/null 2>&1; then
        echo "$0: missing here: $*; without apt-get they have to be installed by hand" >&2
        return 1
    fi
    as_root=
    if [ "$(id -u)" -ne 0 ]; then
        if ! command -v sudo >/dev/null 2>&1; then
            echo "$0: run as root: apt-get install $*" >&2
            return 1
        fi
        as_root=sudo
    fi
    echo "$0: installing $*" >&2
    $as_root apt-get update -q >&2 &&
        $as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends "$@" >&2
}

# Print the first Python that is new enough: the one called python3 before others.
find_python() {
    for candidate in ${PYTHON:-} python3 python3.11 python3.12 python3.13; do
        if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            echo "$candidate"
            return 0
        fi
    done
    echo "$0: Python 3.11 or newer is needed; PYTHON=/path/to/python names one" >&2
    return 1
}

# Make a virtual environment in the directory of that name, unless a working one is there.
make_environment() {
    if "$1/bin/python" -c 'import pip' 2>/dev/null; then
        return 0
    fi
    python=$(find_python) || return 1
    # Debian splits venv off its Python, and says so by the missing ensurepip.
    if ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
        version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
        debian_install "python$version-venv" || return 1
    fi
    "$python" -m venv --clear "$1"
}
