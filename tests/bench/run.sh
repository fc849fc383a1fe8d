#!/usr/bin/env bash
# Holdfast beside restic, borg and (if on PATH) kopia, on the same data, with the floors beside them.
#
#   tests/bench/run.sh [--sets usr,incompressible,small,image] [--tools holdfast,restic,borg,kopia]
#                      [--runs N] [--scale F] [--work DIR] [--output FILE.json] [--help for the rest]
#
# A full run takes about an hour on 2 cores and up to 45 GB in DIR (default: /var/tmp), which are given
# back. Restores go to a freshly made loop-mounted ext4 where that is possible (root). Missing tools
# come with deploy/install-deps.sh --bench.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
python=/usr/bin/python3
[[ -x $python ]] || python=python3
export PYTHONDONTWRITEBYTECODE=1
exec "$python" "$here/bench.py" "$@"
