#!/bin/sh
# Installs what fovea needs to be built and tested, and nothing when all of it is there (then no network is used).
#   install_dependencies.sh          look, say what is missing and why, install it
#   install_dependencies.sh --lint   also what `make lint` needs
#   install_dependencies.sh --fuzz   also what `make fuzz` needs
#   install_dependencies.sh --check  look and report only; exit 1 when something is missing
#   install_dependencies.sh --list   print the package names
# Debian 12 and 13, Ubuntu 22.04 and 24.04 use the same names. Elsewhere the list is printed.
set -eu
cd "$(dirname "$0")/.."

# Debian package | how to see that it is there: a command, a pkg-config module, or a file | what fovea needs it for
packages() {
  cat <<'TABLE'
build-essential|command g++|the C++20 compiler (g++ 11 or newer) and the C library's headers
cmake|command cmake|configures the build (3.22 or newer)
ninja-build|command ninja|runs the build on all cores
pkg-config|command pkg-config|finds the libraries below
nlohmann-json3-dev|module nlohmann_json|reads configs, tokenizers and messages; writes --json
libcli11-dev|module CLI11|the command line
libedit-dev|module libedit|edits the lines of fovea chat
libfmt-dev|module fmt|formats messages
libpugixml-dev|module pugixml|writes the HTML report of an audit, escaped
libpcre2-dev|module libpcre2-8|runs the checkpoint's own pre-tokenizer pattern
libutf8proc-dev|module libutf8proc|Unicode NFC of the text
libjpeg-dev|module libjpeg|JPEG pictures
libpng-dev|module libpng|PNG pictures
libtiff-dev|module libtiff-4|TIFF pictures
libwebp-dev|module libwebp|WebP pictures
libavformat-dev|module libavformat|opens videos
libavcodec-dev|module libavcodec|decodes videos
libswscale-dev|module libswscale|video frames to RGB
libavutil-dev|module libavutil|the base of FFmpeg's libraries
libboost-dev|file /usr/include/boost/beast.hpp|HTTP of fovea serve (Beast, Asio)
libssl-dev|module libssl|https of fovea serve
liblzma-dev|module liblzma|unpacks the tokenizer that ships, and test data
libopenmpi-dev|module ompi|several processes and hosts (mpirun), optional
openmpi-bin|command mpirun|starts them
libgtest-dev|module gtest|the tests
TABLE
  if [ "$with_lint" = yes ]; then
    echo 'python3-venv|command python3 -m ensurepip|a private copy of the formatter, in .venv/'
  fi
  if [ "$with_fuzz" = yes ]; then
    cat <<'TABLE'
clang|command clang++|libFuzzer, the fuzz targets
libclang-rt-dev|clang -fsanitize=fuzzer|libFuzzer and the sanitizers of clang
llvm|command llvm-symbolizer|function names where a target ends
python3|command python3|runs the targets, keeps the ledger
TABLE
  fi
}

with_lint=no
with_fuzz=no
mode=install
for argument in "$@"; do
  case $argument in
    --lint) with_lint=yes ;;
    --fuzz) with_fuzz=yes ;;
    --check) mode=check ;;
    --list) mode=list ;;
    *)
      echo "install_dependencies.sh: unknown option $argument (known: --lint --fuzz --check --list)" >&2
      exit 2
      ;;
  esac
done
if [ "$mode" = list ]; then
  packages | cut -d '|' -f 1
  exit 0
fi

# present PACKAGE PROBE: the distribution says it is installed, or the thing itself answers.
present() {
  case $2 in
    'command python3 -m ensurepip') python3 -c 'import ensurepip, venv' 2>/dev/null ;;
    clang\ *)
      # shellcheck disable=SC2086 # options
      echo 'int LLVMFuzzerTestOneInput(void) { return 0; }' | clang ${2#clang } -x c - -o /dev/null 2>/dev/null
      ;;
    file\ *) [ -e "${2#file }" ] ;;
    command\ *) command -v "${2#command }" >/dev/null 2>&1 ;;
    module\ *)
      if dpkg-query -W -f '${Status}' "$1" 2>/dev/null | grep -q '^install ok installed$'; then return 0; fi
      pkg-config --exists "${2#module }" 2>/dev/null
      ;;
  esac
}

# at_least NAME FOUND WANTED: exact about the floor, since an old tool fails later with a message nobody understands.
at_least() {
  lowest=$(printf '%s\n%s\n' "$2" "$3" | sort -V | head -n 1)
  [ "$lowest" = "$3" ] && return 0
  echo "fovea needs $1 $3 or newer; this machine has $2 ($(command -v "$1"))." >&2
  echo "  remedy: use Debian 12 or newer or Ubuntu 22.04 or newer, or put a newer $1 first in PATH" >&2
  exit 1
}

check_versions() {
  at_least cmake "$(cmake --version | sed -n 's/^cmake version //p')" 3.22
  [ -n "${CXX:-}" ] || at_least g++ "$(g++ -dumpfullversion)" 11
}

missing=''
while IFS='|' read -r package probe why; do
  present "$package" "$probe" && continue
  [ -n "$missing" ] || echo 'Missing on this machine:'
  printf '  %-19s %s\n' "$package" "$why"
  missing="$missing $package"
done <<LIST
$(packages)
LIST

if [ -z "$missing" ]; then
  check_versions
  echo '  dependencies                       all present'
  exit 0
fi
[ "$mode" = install ] || exit 1

if ! command -v apt-get >/dev/null 2>&1; then
  echo >&2
  echo 'fovea installs packages by itself only with apt-get (Debian, Ubuntu), which this machine does not have.' >&2
  echo '  remedy: install the equivalents of the packages above, then run the same command again' >&2
  exit 1
fi

as_root=''
if [ "$(id -u)" -ne 0 ]; then
  as_root='sudo'
  if ! command -v sudo >/dev/null 2>&1; then
    echo >&2
    echo 'Installing packages needs root, and there is no sudo here.' >&2
    echo "  remedy: as root, run: apt-get update && apt-get install -y$missing" >&2
    exit 1
  fi
  echo "They are installed with sudo, which may ask for your password."
  sudo -v
fi

# A machine that has just booted may be updating itself: wait for its lock instead of failing.
apt="env DEBIAN_FRONTEND=noninteractive apt-get -q -o DPkg::Lock::Timeout=600 -o Acquire::Retries=3"
# One unreachable foreign archive must not stop us; when ours is, the installation below says so.
# shellcheck disable=SC2086 # both are lists of words
tools/step.sh 'package lists' build/log/apt-update.log $as_root $apt update ||
  echo '  (going on with the package lists that are here)'
# shellcheck disable=SC2086
if ! tools/step.sh 'packages' build/log/apt-install.log \
  $as_root $apt install -y --no-install-recommends $missing </dev/null; then
  echo >&2
  echo 'apt-get could not install them.' >&2
  echo '  remedy: check the network; on Ubuntu check that the "universe" archive is on (add-apt-repository universe);' >&2
  echo "  then run: apt-get update && apt-get install -y$missing" >&2
  exit 1
fi
hash -r
check_versions
