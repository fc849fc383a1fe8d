#!/usr/bin/env bash
# boringssl_isolation_test.sh <program>: see BUILD.bazel.
set -euo pipefail
program=$1

contained=$(nm "$program" | grep -c ' hf_bssl_' || true)
if [[ $contained -lt 50 ]]; then
  echo "expected BoringSSL inside $program, found $contained of its symbols"
  exit 1
fi

exported=$(nm -D --defined-only "$program" |
  grep -E ' (hf_bssl_|EVP_|AES_|SHA[0-9]|HMAC|HKDF|ED25519|X25519|CRYPTO_|OPENSSL_|ERR_|RAND_|BN_|EC_)' || true)
if [[ -n $exported ]]; then
  echo "exported to shared libraries:"
  echo "$exported"
  exit 1
fi
