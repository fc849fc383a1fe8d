#include "core/compression/codec.h"

#include <cstdint>
#include <random>
#include <string>
#include <vector>

#include "core/base/status_testing.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace holdfast {
namespace {

std::string RandomBytes(std::mt19937_64& rng, size_t n) {
  std::string s(n, '\0');
  for (char& c : s) c = static_cast<char>(rng());
  return s;
}

// Text-like: compresses about threefold.
std::string Words(std::mt19937_64& rng, size_t n) {
  static const char* const kWords[] = {"backup ", "restore ", "chunk ", "pack ", "index\n", "snapshot ", "0x"};
  std::string s;
  while (s.size() < n) {
    s += kWords[rng() % 7];
    if (rng() % 3 == 0) s += static_cast<char>(rng());
  }
  s.resize(n);
  return s;
}

std::string Compressed(std::string_view in, int level = 1) {
  Compressor compressor;
  std::string out(CompressBound(in.size()), '\0');
  out.resize(compressor.Compress(level, in, out.data(), out.size()));
  return out;
}

absl::StatusOr<std::string> Decompressed(std::string_view in, size_t length) {
  Decompressor decompressor;
  // A guard behind the output would show a write past its end.
  std::string out(length + 16, '\x5a');
  RETURN_IF_ERROR(decompressor.Decompress(in, out.data(), length));
  EXPECT_EQ(out.substr(length), std::string(16, '\x5a'));
  out.resize(length);
  return out;
}

TEST(Codec, GivesBackWhatItCompressed) {
  std::mt19937_64 rng(1);
  Compressor compressor;
  Decompressor decompressor;
  for (int level : {-7, -1, 1, 2, 3, 9}) {
    for (size_t n : {500u, 1000u, 65536u, 300000u, 4u << 20, 8u << 20}) {
      if (level > 3 && n > 1000000) continue;
      const std::string in = Words(rng, n);
      std::string frame(CompressBound(n), '\0');
      frame.resize(compressor.Compress(level, in, frame.data(), frame.size()));
      ASSERT_GT(frame.size(), 0u) << "level " << level << " size " << n;
      ASSERT_LT(frame.size(), n);
      std::string out(n, '\0');
      ASSERT_OK(decompressor.Decompress(frame, out.data(), n));
      ASSERT_EQ(out, in) << "level " << level << " size " << n;
    }
  }
}

TEST(Codec, SaysWhenItDoesNotShrink) {
  std::mt19937_64 rng(2);
  for (size_t n : {0u, 1u, 5u, 4096u, 1u << 20}) EXPECT_EQ(Compressed(RandomBytes(rng, n)), "") << n;
}

TEST(Codec, SaysWhenItDoesNotFit) {
  std::mt19937_64 rng(3);
  const std::string in = Words(rng, 10000);
  const std::string frame = Compressed(in);
  Compressor compressor;
  std::string out(20000, '\x5a');
  for (size_t capacity = 0; capacity < frame.size(); ++capacity) {
    ASSERT_EQ(compressor.Compress(1, in, out.data(), capacity), 0u) << capacity;
    ASSERT_EQ(out.find_first_not_of('\x5a', capacity), std::string::npos) << "wrote past " << capacity;
  }
  EXPECT_EQ(compressor.Compress(1, in, out.data(), CompressBound(in.size())), frame.size());
}

TEST(Codec, GivesTheSameFrameFromAUsedCompressor) {
  std::mt19937_64 rng(4);
  Compressor used;
  std::string out(CompressBound(200000), '\0');
  for (int i = 0; i < 20; ++i) {
    const std::string in = Words(rng, 1 + rng() % 200000);
    const int level = i % 3 + 1;
    const size_t n = used.Compress(level, in, out.data(), out.size());
    EXPECT_EQ(out.substr(0, n), Compressed(in, level));
  }
}

TEST(Codec, RefusesAFrameOfAnotherLength) {
  std::mt19937_64 rng(5);
  const std::string in = Words(rng, 5000);
  const std::string frame = Compressed(in);
  EXPECT_THAT(Decompressed(frame, 5000), IsOkAndHolds(in));
  for (size_t length : {0u, 1u, 4999u, 5001u, 8u << 20}) {
    EXPECT_THAT(Decompressed(frame, length), StatusIs(absl::StatusCode::kDataLoss)) << length;
  }
}

TEST(Codec, RefusesEveryTruncationAndAnythingBehindTheFrame) {
  std::mt19937_64 rng(6);
  for (size_t n : {200u, 5000u, 300000u}) {
    const std::string in = Words(rng, n);
    const std::string frame = Compressed(in);
    for (size_t cut = 0; cut<frame.size(); cut += n> 10000 && cut > 300 ? 211 : 1) {
      ASSERT_THAT(Decompressed(std::string(frame, 0, cut), n), StatusIs(absl::StatusCode::kDataLoss)) << cut;
    }
    EXPECT_THAT(Decompressed(frame + '\0', n), StatusIs(absl::StatusCode::kDataLoss));
    EXPECT_THAT(Decompressed(frame + frame, n), StatusIs(absl::StatusCode::kDataLoss));
    EXPECT_THAT(Decompressed(frame + frame, 2 * n), StatusIs(absl::StatusCode::kDataLoss));
  }
}

TEST(Codec, SurvivesEveryFlippedBit) {
  std::mt19937_64 rng(7);
  const std::string in = Words(rng, 700);
  const std::string frame = Compressed(in);
  int refused = 0;
  for (size_t bit = 0; bit < frame.size() * 8; ++bit) {
    std::string damaged = frame;
    damaged[bit / 8] = static_cast<char>(damaged[bit / 8] ^ (1 << (bit % 8)));
    auto out = Decompressed(damaged, in.size());
    if (!out.ok()) {
      ++refused;
      ASSERT_THAT(out, StatusIs(absl::StatusCode::kDataLoss));
    }
  }
  EXPECT_GT(refused, 0);
}

TEST(Codec, WorksAgainAfterADamagedFrame) {
  std::mt19937_64 rng(8);
  const std::string in = Words(rng, 50000);
  const std::string frame = Compressed(in);
  Decompressor decompressor;
  std::string out(in.size(), '\0');
  std::string damaged = frame;
  for (size_t i = 20; i < 200; ++i) damaged[i] = static_cast<char>(rng());
  (void)decompressor.Decompress(damaged, out.data(), out.size());
  ASSERT_OK(decompressor.Decompress(frame, out.data(), out.size()));
  EXPECT_EQ(out, in);
}

// Frames by hand (RFC 8878): magic, descriptor, window, content size; then one last block of one repeated byte.
std::string Frame(std::string header, uint32_t run) {
  const uint32_t block = 1 | 1 << 1 | run << 3;  // last, RLE, size
  std::string out("\x28\xb5\x2f\xfd", 4);
  out += header;
  for (int i = 0; i < 3; ++i) out += static_cast<char>(block >> (8 * i));
  return out + 'x';
}

TEST(Codec, AcceptsWindowsUpTo8MiBAndNoMore) {
  const std::string run(1000, 'x');
  auto with_window = [](int w) { return Frame(std::string("\0", 1) + static_cast<char>(w), 1000); };
  EXPECT_THAT(Decompressed(with_window(0), 1000), IsOkAndHolds(run));
  EXPECT_THAT(Decompressed(with_window(13 << 3), 1000), IsOkAndHolds(run));
  EXPECT_THAT(Decompressed(with_window(13 << 3 | 1), 1000), StatusIs(absl::StatusCode::kDataLoss, "window"));
  EXPECT_THAT(Decompressed(with_window(14 << 3), 1000), StatusIs(absl::StatusCode::kDataLoss, "window"));
  EXPECT_THAT(Decompressed(with_window(31 << 3 | 7), 1000), StatusIs(absl::StatusCode::kDataLoss, "window"));
}

TEST(Codec, AcceptsAFrameWithoutContentSizeOnlyOfTheRightLength) {
  const std::string frame = Frame(std::string("\0\x50", 2), 1000);
  EXPECT_THAT(Decompressed(frame, 1000), IsOkAndHolds(std::string(1000, 'x')));
  EXPECT_THAT(Decompressed(frame, 999), StatusIs(absl::StatusCode::kDataLoss));
  EXPECT_THAT(Decompressed(frame, 1001), StatusIs(absl::StatusCode::kDataLoss));
}

TEST(Codec, RefusesHugeContentSizes) {
  // Single segment, 8 bytes of content size.
  const std::string huge = Frame("\xe0" + std::string(8, '\xff'), 1000);
  EXPECT_THAT(Decompressed(huge, 1000), StatusIs(absl::StatusCode::kDataLoss));
  EXPECT_THAT(Decompressed(huge, SIZE_MAX == UINT64_MAX ? 1000 : 0), StatusIs(absl::StatusCode::kDataLoss));
  // The size is right, the blocks are a bomb.
  EXPECT_THAT(Decompressed(Frame("\xa0" + std::string("\xe8\x03\0\0", 4), 100000), 1000),
              StatusIs(absl::StatusCode::kDataLoss));
}

TEST(Codec, RefusesDictionariesSkippableAndForeignFrames) {
  EXPECT_THAT(Decompressed(Frame(std::string("\x01\x50\x07", 3), 1000), 1000), StatusIs(absl::StatusCode::kDataLoss));
  EXPECT_THAT(Decompressed(Frame(std::string("\x08\x50", 2), 1000), 1000), StatusIs(absl::StatusCode::kDataLoss));
  const std::string skippable("\x50\x2a\x4d\x18\x04\0\0\0abcd", 12);
  EXPECT_THAT(Decompressed(skippable, 0), StatusIs(absl::StatusCode::kDataLoss));
  EXPECT_THAT(Decompressed(skippable + Frame(std::string("\0\x50", 2), 1000), 1000),
              StatusIs(absl::StatusCode::kDataLoss));
  EXPECT_THAT(Decompressed("", 0), StatusIs(absl::StatusCode::kDataLoss));
  for (int version = 0x22; version <= 0x27; ++version) {  // zstd before 1.0
    std::string old = Frame(std::string("\0\x50", 2), 1000);
    old[0] = static_cast<char>(version);
    EXPECT_THAT(Decompressed(old, 1000), StatusIs(absl::StatusCode::kDataLoss));
  }
}

TEST(Codec, SurvivesRandomFrames) {
  std::mt19937_64 rng(9);
  for (int i = 0; i < 20000; ++i) {
    std::string frame = "\x28\xb5\x2f\xfd" + RandomBytes(rng, rng() % 60);
    (void)Decompressed(frame, rng() % 300);
  }
}

}  // namespace
}  // namespace holdfast
