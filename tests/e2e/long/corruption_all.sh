#!/usr/bin/env bash
# The corruption test with every damage to every blob, each with and without RocksDB.
HOLDFAST_TEST_DAMAGES=all exec "$(dirname "$0")/../corruption.sh"
