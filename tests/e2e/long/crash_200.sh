#!/usr/bin/env bash
# The crash test with 200 random kills.
HOLDFAST_TEST_KILLS=${HOLDFAST_TEST_KILLS:-200} exec "$(dirname "$0")/../crash.sh"
