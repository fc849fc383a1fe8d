#include "core/format/record_sealer.h"

#include <fstream>
#include <map>
#include <random>
#include <sstream>

#include "core/base/status_testing.h"
#include "core/crypto/kdf.h"

namespace holdfast {
namespace {

constexpr absl::StatusCode kDamaged = absl::StatusCode::kDataLoss;

std::string Bytes(uint64_t v, int n) { return std::string(reinterpret_cast<const char*>(&v), n); }

// The keys of the specification's examples, derived as section 2 says.
SealingKeys TestKeys() {
  SealingKeys keys;
  for (int i = 0; i < 16; ++i) keys.repository.bytes[i] = static_cast<uint8_t>(i);
  const auto derive = [&](std::string_view secret, std::string_view label, const std::string& fields) {
    return Hkdf256(secret, keys.repository.view(), absl::StrCat("holdfast/1/", AbslView(label), Bytes(0, 1), fields));
  };
  const Key256 group = derive(std::string(32, '\x11'), "group", Bytes(1, 4) + Bytes(0, 4));
  const Key256 write = derive(std::string(32, '\x13'), "agent-write", Bytes(1, 4) + Bytes(7, 4));
  keys.agent = 7;
  keys.data_key = derive(group.ExposeView(), "data", Bytes(1, 4));
  keys.tree_key = derive(write.ExposeView(), "tree", Bytes(1, 4) + Bytes(7, 4));
  keys.nonce_key = derive(group.ExposeView(), "nonce", Bytes(1, 4));
  return keys;
}

std::vector<ChunkId> Children(int n) {
  std::vector<ChunkId> children(n);
  for (int i = 0; i < n; ++i) children[i].bytes.fill(static_cast<uint8_t>(i + 1));
  return children;
}

std::string RandomBytes(size_t n, uint64_t seed) {
  std::mt19937_64 rng(seed);
  std::string out(n, '\0');
  for (char& c : out) c = static_cast<char>(rng());
  return out;
}

std::string Text(size_t n) {
  std::string out;
  for (uint64_t i = 0; out.size() < n; ++i) out += "line " + std::to_string(i * i) + "\n";
  out.resize(n);
  return out;
}

struct Sealed {
  ChunkRef ref;
  std::string record;
};

Sealed Seal(const SealingKeys& keys, ChunkType type, const std::vector<ChunkId>& children, std::string_view plaintext,
            int level) {
  RecordSealer sealer(keys);
  Sealed out;
  out.ref = ComputeChunkRef(keys, type, children, plaintext);
  // Guard bytes behind the promised maximum.
  out.record.assign(RecordBytesMax(plaintext.size(), children.size()) + 16, '\xa5');
  size_t n = sealer.Seal(type, out.ref, children, plaintext, level, false, out.record.data());
  EXPECT_LE(n, RecordBytesMax(plaintext.size(), children.size()));
  EXPECT_EQ(out.record.substr(out.record.size() - 16), std::string(16, '\xa5'));
  out.record.resize(n);
  return out;
}

void ExpectOpens(const SealingKeys& keys, const Sealed& sealed, ChunkType type, const std::vector<ChunkId>& children,
                 std::string_view plaintext) {
  RecordOpener opener(keys.repository);
  ASSERT_OK_AND_ASSIGN(OpenedChunk chunk, opener.Open(sealed.ref, sealed.record));
  EXPECT_EQ(chunk.type, type);
  EXPECT_TRUE(chunk.plaintext == plaintext) << chunk.plaintext.size();
  EXPECT_EQ(std::vector<ChunkId>(chunk.children.begin(), chunk.children.end()), children);
}

TEST(RecordSealer, GivesBackWhatWasSealed) {
  for (AeadAlgorithm aead : {AeadAlgorithm::kAes256Gcm, AeadAlgorithm::kChaCha20Poly1305}) {
    for (bool padding : {false, true}) {
      SealingKeys keys = TestKeys();
      keys.aead = aead;
      keys.padding = padding;
      for (size_t size : {0, 1, 9, 64 << 10, 8 << 20}) {
        for (int level : {0, 1, 3, -1}) {
          for (bool text : {false, true}) {
            SCOPED_TRACE(testing::Message() << "size " << size << " level " << level << " padding " << padding);
            if (size > (1u << 20) && level == 3) continue;
            std::string plaintext = text ? Text(size) : RandomBytes(size, size);
            Sealed data = Seal(keys, ChunkType::kData, {}, plaintext, level);
            ExpectOpens(keys, data, ChunkType::kData, {}, plaintext);
            const bool smaller = data.record.size() < plaintext.size();
            EXPECT_EQ(smaller, text && level != 0 && size > 1000);
            if (size > (1u << 20)) continue;
            for (int children : {0, 1, 100}) {
              ExpectOpens(keys, Seal(keys, ChunkType::kTree, Children(children), plaintext, level), ChunkType::kTree,
                          Children(children), plaintext);
            }
          }
        }
      }
    }
  }
}

TEST(RecordSealer, PadsTheBodyAsPadmeSays) {
  SealingKeys plain = TestKeys(), padded = TestKeys();
  padded.padding = true;
  for (size_t size = 0; size < 3000; size += 1 + size / 7) {
    std::string plaintext = RandomBytes(size, size);
    size_t without = Seal(plain, ChunkType::kData, {}, plaintext, 0).record.size();
    EXPECT_EQ(without, kRecordHeaderFixedBytes + kSealedBytesMin + size);
    Sealed with = Seal(padded, ChunkType::kData, {}, plaintext, 0);
    EXPECT_EQ(with.record.size(), without + PadmePadding(static_cast<uint32_t>(kBodyPrefixBytes + size))) << size;
    ExpectOpens(plain, with, ChunkType::kData, {}, plaintext);
  }
}

TEST(RecordSealer, FitsItsOwnLimitsWhenPaddedAndFull) {
  SealingKeys keys = TestKeys();
  keys.padding = true;
  Sealed sealed = Seal(keys, ChunkType::kTree, Children(10), RandomBytes(kChunkPlaintextBytesMax, 1), 1);
  EXPECT_OK(DecodeRecordHeader(sealed.record.substr(0, kRecordHeaderFixedBytes + 320)));
}

TEST(RecordSealer, GivesTheSameBytesWithHeadroomAndPutsItBack) {
  for (bool padding : {false, true}) {
    SealingKeys keys = TestKeys();
    keys.padding = padding;
    for (size_t size : {0, 1, 9, 5000, 64 << 10}) {
      for (int level : {0, 1}) {
        for (bool text : {false, true}) {
          std::string plaintext = text ? Text(size) : RandomBytes(size, size);
          const std::string buffer = "headroom." + plaintext;
          std::string writable = buffer;
          Sealed sealed = Seal(keys, ChunkType::kData, {}, plaintext, level);
          std::string out(RecordBytesMax(size, 0), '\0');
          RecordSealer sealer(keys);
          out.resize(
              sealer.Seal(ChunkType::kData, sealed.ref, {}, {writable.data() + 9, size}, level, true, out.data()));
          EXPECT_EQ(out, sealed.record) << size << " level " << level;
          EXPECT_EQ(writable, buffer);
        }
      }
    }
  }
}

TEST(RecordSealer, IsDeterministicAndKeepsNothingFromOneRecordToTheNext) {
  SealingKeys keys = TestKeys();
  RecordSealer sealer(keys);
  RecordOpener opener(keys.repository);
  for (size_t size : {100000, 10, 0, 5000, 100000}) {
    std::string plaintext = Text(size);
    Sealed fresh = Seal(keys, ChunkType::kTree, Children(2), plaintext, 1);
    std::string out(RecordBytesMax(size, 2), '\0');
    out.resize(sealer.Seal(ChunkType::kTree, fresh.ref, Children(2), plaintext, 1, false, out.data()));
    EXPECT_EQ(out, fresh.record);
    ASSERT_OK_AND_ASSIGN(OpenedChunk chunk, opener.Open(fresh.ref, out));
    EXPECT_TRUE(chunk.plaintext == plaintext);
  }
}

TEST(RecordSealer, NeverUsesANonceTwiceForDifferentMessages) {
  // One content key, several encodings of one plaintext: each its own nonce, or equal bytes.
  SealingKeys keys = TestKeys();
  std::string plaintext = Text(20000);
  std::map<std::string, std::string> by_nonce;
  for (bool padding : {false, true}) {
    for (uint32_t agent : {1, 2}) {
      for (int level : {0, 1, 2, 3, 6}) {
        keys.padding = padding;
        keys.agent = agent;
        std::string record = Seal(keys, ChunkType::kData, {}, plaintext, level).record;
        std::string nonce = record.substr(kRecordHeaderFixedBytes, 12);
        auto [it, inserted] = by_nonce.try_emplace(nonce, record);
        EXPECT_EQ(it->second, record);
      }
    }
  }
  EXPECT_GE(by_nonce.size(), 12u);
}

TEST(ComputeChunkRef, DependsOnEverythingThatIsSealed) {
  SealingKeys keys = TestKeys(), other = TestKeys();
  other.data_key.MutableBytes()[31] ^= 1;
  std::vector<ChunkRef> refs = {
      ComputeChunkRef(keys, ChunkType::kData, {}, "text"), ComputeChunkRef(keys, ChunkType::kTree, {}, "text"),
      ComputeChunkRef(keys, ChunkType::kData, {}, "texu"), ComputeChunkRef(keys, ChunkType::kData, {}, ""),
      ComputeChunkRef(other, ChunkType::kData, {}, "text"),
      ComputeChunkRef(keys, ChunkType::kTree, Children(1), "text"),
      ComputeChunkRef(keys, ChunkType::kTree, Children(2), "text"),
      // A child id moved into the plaintext.
      ComputeChunkRef(keys, ChunkType::kTree, Children(1), std::string(Children(2)[1].view()) + "text")};
  for (size_t i = 0; i < refs.size(); ++i) {
    EXPECT_NE(HexEncode(refs[i].id.view()), HexEncode(refs[i].key.ExposeView()));
    for (size_t j = 0; j < i; ++j) EXPECT_FALSE(refs[i].id == refs[j].id || refs[i].key == refs[j].key) << i << j;
  }
}

TEST(SealedRecords, AreRefusedWithAnyBitFlippedAtAnyTruncationAndWithMore) {
  for (bool padding : {false, true}) {
    SealingKeys keys = TestKeys();
    keys.padding = padding;
    RecordOpener opener(keys.repository);
    for (int level : {0, 1}) {
      Sealed sealed = Seal(keys, ChunkType::kTree, Children(2), Text(300), level);
      ASSERT_OK(opener.Open(sealed.ref, sealed.record));
      for (size_t bit = 0; bit < 8 * sealed.record.size(); ++bit) {
        std::string record = sealed.record;
        record[bit / 8] = static_cast<char>(record[bit / 8] ^ (1 << bit % 8));
        ASSERT_THAT(opener.Open(sealed.ref, record), StatusIs(kDamaged)) << "bit " << bit;
      }
      for (size_t n = 0; n < sealed.record.size(); ++n) {
        ASSERT_THAT(opener.Open(sealed.ref, sealed.record.substr(0, n)), StatusIs(kDamaged)) << n;
      }
      EXPECT_THAT(opener.Open(sealed.ref, sealed.record + "x"), StatusIs(kDamaged));
      EXPECT_OK(opener.Open(sealed.ref, sealed.record)) << "the opener survives damage";
    }
  }
}

TEST(SealedRecords, AreRefusedInAnothersPlace) {
  SealingKeys keys = TestKeys();
  RecordOpener opener(keys.repository);
  Sealed a = Seal(keys, ChunkType::kData, {}, "one", 0), b = Seal(keys, ChunkType::kData, {}, "two", 0);
  EXPECT_THAT(opener.Open(a.ref, b.record), StatusIs(kDamaged, "another chunk"));
  // The header of one before the body of the other.
  std::string mixed = a.record.substr(0, kRecordHeaderFixedBytes) + b.record.substr(kRecordHeaderFixedBytes);
  EXPECT_THAT(opener.Open(a.ref, mixed), StatusIs(kDamaged));
  EXPECT_THAT(opener.Open(b.ref, mixed), StatusIs(kDamaged));
}

TEST(SealedRecords, AreRefusedWithAWrongKeyOrInAnotherRepository) {
  const SealingKeys keys = TestKeys();
  Sealed sealed = Seal(keys, ChunkType::kTree, Children(1), "page", 0);
  ChunkRef wrong_key = sealed.ref;
  wrong_key.key.MutableBytes()[0] ^= 1;
  EXPECT_THAT(RecordOpener(keys.repository).Open(wrong_key, sealed.record), StatusIs(kDamaged, "authenticate"));
  SealingKeys other = keys;
  other.repository.bytes[0] ^= 1;
  EXPECT_THAT(RecordOpener(other.repository).Open(sealed.ref, sealed.record), StatusIs(kDamaged, "authenticate"));
  // A parent that was made for other content.
  ChunkRef wrong_digest = sealed.ref;
  wrong_digest.digest.bytes[0] ^= 1;
  EXPECT_THAT(RecordOpener(keys.repository).Open(wrong_digest, sealed.record), StatusIs(kDamaged, "snapshot says"));
}

TEST(SealedRecords, OpenWithoutTheSecretsThatNamedThem) {
  // Whoever has the reference needs nothing else: after a rotation the old secrets may be gone.
  const Sealed sealed = Seal(TestKeys(), ChunkType::kTree, Children(1), "page", 0);
  RecordOpener opener(TestKeys().repository);
  ASSERT_OK_AND_ASSIGN(OpenedChunk opened, opener.Open(sealed.ref, sealed.record));
  EXPECT_EQ(opened.plaintext, "page");
}

TEST(SealedRecords, AreRefusedWhenAnAgentSealedOtherContentUnderAGoodId) {
  // The poisoned chunk: sealed with the right key under the right id, with other bytes, children or type inside.
  SealingKeys keys = TestKeys();
  RecordOpener opener(keys.repository);
  const ChunkRef good = ComputeChunkRef(keys, ChunkType::kTree, Children(1), "good");
  auto poison = [&](ChunkType type, const std::vector<ChunkId>& children, std::string_view plaintext) {
    std::string out(RecordBytesMax(plaintext.size(), children.size()), '\0');
    out.resize(RecordSealer(keys).Seal(type, good, children, plaintext, 1, false, out.data()));
    return opener.Open(good, out).status();
  };
  EXPECT_OK(poison(ChunkType::kTree, Children(1), "good"));
  EXPECT_THAT(poison(ChunkType::kTree, Children(1), "evil"), StatusIs(kDamaged, "snapshot says"));
  EXPECT_THAT(poison(ChunkType::kTree, Children(2), "good"), StatusIs(kDamaged, "snapshot says"));
  EXPECT_THAT(poison(ChunkType::kTree, {}, "good"), StatusIs(kDamaged, "snapshot says"));
  EXPECT_THAT(poison(ChunkType::kData, {}, "good"), StatusIs(kDamaged, "snapshot says"));
}

std::map<std::string, std::string> ReadGolden() {
  std::map<std::string, std::string> out;
  std::ifstream in("core/format/testdata/golden.txt");
  EXPECT_TRUE(in) << "run from the workspace root";
  for (std::string line; std::getline(in, line);) {
    if (line.empty() || line[0] == '#') continue;
    std::istringstream fields(line);
    std::string name, hex;
    fields >> name >> hex;
    out[name] = hex == "-" ? "" : HexDecode(hex).value();
  }
  return out;
}

TEST(RecordSealer, GivesTheBytesOfTheGoldenFile) {
  std::map<std::string, std::string> golden = ReadGolden();
  const SealingKeys base = TestKeys();
  EXPECT_EQ(HexEncode(base.data_key.ExposeView()), HexEncode(golden["key.data"]));
  EXPECT_EQ(HexEncode(base.tree_key.ExposeView()), HexEncode(golden["key.tree"]));
  EXPECT_EQ(HexEncode(base.nonce_key.ExposeView()), HexEncode(golden["key.nonce"]));
  for (const std::string name : {"data", "empty", "tree", "padded", "chacha", "zstd", "zstd_padded"}) {
    SCOPED_TRACE(name);
    SealingKeys keys = base;
    keys.padding = name == "padded";
    if (name == "chacha") keys.aead = AeadAlgorithm::kChaCha20Poly1305;
    ASSERT_TRUE(golden.contains(name + ".record"));
    const std::string& plaintext = golden[name + ".plaintext"];
    ChunkType type = static_cast<ChunkType>(golden[name + ".type"][0]);
    std::vector<ChunkId> children;
    for (size_t at = 0; at < golden[name + ".children"].size(); at += 32) {
      children.push_back(ChunkId::FromBytes(golden[name + ".children"].substr(at, 32)).value());
    }
    Sealed sealed = Seal(keys, type, children, plaintext, 0);
    EXPECT_EQ(HexEncode(sealed.ref.digest.view()), HexEncode(golden[name + ".digest"]));
    EXPECT_EQ(HexEncode(sealed.ref.id.view()), HexEncode(golden[name + ".id"]));
    EXPECT_EQ(HexEncode(sealed.ref.key.ExposeView()), HexEncode(golden[name + ".key"]));
    if (name.substr(0, 4) != "zstd") {
      EXPECT_EQ(HexEncode(sealed.record), HexEncode(golden[name + ".record"]));
    }
    sealed.record = golden[name + ".record"];
    ExpectOpens(keys, sealed, type, children, plaintext);
  }
}

}  // namespace
}  // namespace holdfast
