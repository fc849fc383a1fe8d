#include "client/rpc/test_server.h"

#include <stdlib.h>

#include <cstdio>
#include <filesystem>

#include "core/crypto/blake3.h"
#include "core/io/posix.h"

namespace holdfast {
namespace {

std::string NewDirectory() {
  char name[] = "/tmp/hf-server.XXXXXX";  // a socket's path has 107 bytes at most, TEST_TMPDIR has more
  if (mkdtemp(name) == nullptr) {
    std::perror(name);
    std::abort();
  }
  return name;
}

// An intact one (docs/format.md, sections 1, 3 and 4).
std::string KeyBlobBytes(std::string_view magic) {
  std::string bytes(magic);
  bytes += '\0';
  bytes += std::string(64, 'k');
  return bytes + std::string(Blake3Digest(bytes).view());
}

Key256 TestKey(uint8_t seed) {
  Key256 key;
  for (size_t i = 0; i < 32; ++i) key.MutableBytes()[i] = static_cast<uint8_t>(seed + 7 * i);
  return key;
}

}  // namespace

TestServer::TestServer() : directory_(NewDirectory()), registry_(PosixIo(), directory_ + "/spool"), client_(registry_) {
  if (absl::Status s = client_.CreateRepository(NewRepositoryRequest(kRepository)); !s.ok()) {
    std::fprintf(stderr, "%s\n", s.ToString().c_str());
    std::abort();
  }
}

TestServer::~TestServer() {
  std::error_code ignored;
  std::filesystem::remove_all(directory_, ignored);
}

RepositoryId TestServer::Id() {
  RepositoryId id;
  id.bytes.fill(0);
  id.bytes[0] = 'r';
  return id;
}

SealingKeys TestServer::Keys(uint32_t agent) {
  SealingKeys keys;
  keys.repository = Id();
  keys.agent = agent;
  keys.data_key = TestKey(1);
  keys.tree_key = TestKey(static_cast<uint8_t>(100 + agent));
  keys.nonce_key = TestKey(3);
  return keys;
}

v1::CreateRepositoryRequest TestServer::NewRepositoryRequest(const std::string& name) {
  v1::CreateRepositoryRequest request;
  request.set_name(name);
  RepositoryId id = Id();
  const Digest digest = Blake3Digest(name);
  if (name != kRepository) std::copy_n(digest.bytes.begin(), id.bytes.size(), id.bytes.begin());
  request.set_repository_id(std::string(id.view()));
  request.set_aead(1);
  request.set_settings(KeyBlobBytes("HFREPO1"));
  request.set_key_slots(KeyBlobBytes("HFSLOT1"));
  request.set_keyring(KeyBlobBytes("HFRING1"));
  request.set_catalog_key(std::string(32, 'c'));
  return request;
}

}  // namespace holdfast
