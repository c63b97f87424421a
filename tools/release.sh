#!/bin/sh
# What a release consists of, in dist/: the source archive, the Debian package of this machine's release, the Python
# wheel, and their checksums. Refuses a working tree with changes, and a version that CHANGELOG.md does not have.
#   tools/release.sh
set -eu
cd "$(dirname "$0")/.."
version=$(sed -n 's/^project(fovea VERSION \([0-9.]*\).*/\1/p' CMakeLists.txt)
[ -n "$version" ] || { echo "CMakeLists.txt states no version" >&2; exit 1; }
[ -z "$(git status --porcelain)" ] || { echo "the working tree has changes; commit them first" >&2; exit 1; }
grep -q "^## \[$version\]" CHANGELOG.md ||
  { echo "CHANGELOG.md has no section [$version]: give the unreleased one its number and date" >&2; exit 1; }
rm -rf dist
mkdir dist
git archive --format=tar.gz --prefix="fovea-$version/" -o "dist/fovea-$version.tar.gz" HEAD
make --no-print-directory deb
cp build/packages/*.deb dist/
python3 -m venv dist/venv
dist/venv/bin/pip --quiet wheel --no-deps --wheel-dir dist ./python
rm -rf dist/venv
(cd dist && sha256sum -- * >SHA256SUMS)
ls -l dist
