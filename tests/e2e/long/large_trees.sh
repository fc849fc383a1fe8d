#!/usr/bin/env bash
# The difficult tree at full size (about 1 GB) and a directory of 500,000 entries.
HOLDFAST_TEST_PROFILE=full HOLDFAST_TEST_BIG_DIR=${HOLDFAST_TEST_BIG_DIR:-500000} \
  HOLDFAST_TEST_PATIENCE=${HOLDFAST_TEST_PATIENCE:-4} exec "$(dirname "$0")/../tree.sh"
