#include "core/keys/key_slots.h"

#include "core/base/status_testing.h"
#include "core/keys/damage_testing.h"
#include "core/keys/envelope.h"
#include "core/keys/keys_testing.h"
#include "core/keys/recovery_key.h"
#include "proto/holdfast/format/v1/keys.pb.h"

namespace holdfast {
namespace {

using absl::StatusCode;

class KeySlotsTest : public ::testing::Test {
 protected:
  KeySlotsTest() { slots_.repository = repository_; }
  uint32_t Add(std::string_view password, KeySlotKind kind = KeySlotKind::kPassword) {
    auto id = AddKeySlot(slots_, master_, {kind, "laptop", kCheapArgon2, 1}, SecretString(password), random_);
    EXPECT_OK(id);
    return id.value_or(0);
  }
  std::string Encode() {
    auto blob = EncodeKeySlots(slots_, mac_key());
    EXPECT_OK(blob);
    return blob.value_or("");
  }
  Key256 mac_key() const { return MasterKeys(master_, repository_).slot_mac_key(); }
  absl::StatusOr<MasterSecret> Open(std::string_view blob, std::string_view password) {
    return OpenMaster(blob, repository_, SecretString(password));
  }
  // A blob with a right MAC and checksum, whatever the record says: only its own rules can refuse it.
  std::string EncodeRecord(const format::v1::KeySlots& message) {
    std::string part = EnvelopeSignedPart(std::string_view("HFSLOT1\0", 8), message.SerializeAsString());
    auto mac = HmacSha256(mac_key(), part);
    return FinishEnvelope(part, {reinterpret_cast<const char*>(mac.data()), mac.size()});
  }
  format::v1::KeySlots Record() {
    std::string blob = Encode();
    format::v1::KeySlots message;
    EXPECT_TRUE(message.ParseFromString(blob.substr(12, blob.size() - kEnvelopeOverheadBytes)));
    return message;
  }

  RepositoryId repository_ = CountingId<RepositoryId>();
  MasterSecret master_ = RepeatedKey<MasterSecret>(0x22);
  CountingRandom random_;
  KeySlots slots_;
};

TEST_F(KeySlotsTest, OpenWithTheRightPasswordOnly) {
  Add("correct horse");
  std::string blob = Encode();
  EXPECT_THAT(Open(blob, "correct horse"), IsOkAndHolds(master_));
  for (const char* wrong : {"correct horsE", "correct horse ", "", "correct"}) {
    EXPECT_THAT(Open(blob, wrong), StatusIs(StatusCode::kUnauthenticated, "wrong password")) << wrong;
  }
}

TEST_F(KeySlotsTest, AnyOfTwoPasswordsAndARecoveryKeyOpen) {
  uint32_t first = Add("alpha");
  uint32_t second = Add("beta");
  SecretString recovery = GenerateRecoveryKey(random_);
  uint32_t third = Add(FormatRecoveryKey(recovery).ExposeView(), KeySlotKind::kRecovery);
  std::string blob = Encode();
  ASSERT_OK_AND_ASSIGN(OpenedKeySlots by_first, OpenKeySlots(blob, repository_, SecretString("alpha")));
  EXPECT_EQ(by_first.slot_id, first);
  EXPECT_EQ(by_first.slots.slots.size(), 3u);
  ASSERT_OK_AND_ASSIGN(OpenedKeySlots by_second, OpenKeySlots(blob, repository_, SecretString("beta")));
  EXPECT_EQ(by_second.slot_id, second);
  EXPECT_EQ(by_second.master, master_);
  std::string typed(recovery.ExposeView());
  for (char& c : typed) c = static_cast<char>(std::tolower(c));
  ASSERT_OK_AND_ASSIGN(OpenedKeySlots by_third, OpenKeySlots(blob, repository_, SecretString(typed)));
  EXPECT_EQ(by_third.slot_id, third);
  EXPECT_EQ(by_third.master, master_);
}

TEST_F(KeySlotsTest, ARemovedPasswordOpensNothing) {
  uint32_t first = Add("alpha");
  Add("beta");
  ASSERT_OK(RemoveKeySlot(slots_, first));
  ++slots_.generation;
  std::string blob = Encode();
  EXPECT_THAT(Open(blob, "alpha"), StatusIs(StatusCode::kUnauthenticated));
  EXPECT_THAT(Open(blob, "beta"), IsOkAndHolds(master_));
}

TEST_F(KeySlotsTest, TheLastSlotCannotBeRemovedButReplaced) {
  uint32_t first = Add("alpha");
  EXPECT_THAT(RemoveKeySlot(slots_, first), StatusIs(StatusCode::kFailedPrecondition));
  EXPECT_THAT(RemoveKeySlot(slots_, 77), StatusIs(StatusCode::kNotFound));
  ASSERT_OK_AND_ASSIGN(uint32_t second,
                       ReplaceKeySlot(slots_, first, master_, {KeySlotKind::kPassword, "", kCheapArgon2, 2},
                                      SecretString("beta"), random_));
  EXPECT_NE(second, first) << "ids are never reused";
  std::string blob = Encode();
  EXPECT_THAT(Open(blob, "alpha"), StatusIs(StatusCode::kUnauthenticated));
  EXPECT_THAT(Open(blob, "beta"), IsOkAndHolds(master_));
}

TEST_F(KeySlotsTest, BadRequestsChangeNothing) {
  auto add = [&](NewKeySlot request, std::string_view secret) {
    return AddKeySlot(slots_, master_, request, SecretString(secret), random_).status();
  };
  EXPECT_THAT(add({.label = "", .argon2 = kCheapArgon2}, ""), StatusIs(StatusCode::kInvalidArgument, "empty"));
  EXPECT_THAT(add({.label = "", .argon2 = {1024, 1}}, "p"), StatusIs(StatusCode::kInvalidArgument, "memory"));
  EXPECT_THAT(add({.label = "", .argon2 = {64 * 1024, 17}}, "p"), StatusIs(StatusCode::kInvalidArgument, "passes"));
  EXPECT_THAT(add({.label = "a\nb", .argon2 = kCheapArgon2}, "p"), StatusIs(StatusCode::kInvalidArgument));
  EXPECT_THAT(add({.label = std::string(129, 'x'), .argon2 = kCheapArgon2}, "p"),
              StatusIs(StatusCode::kInvalidArgument));
  EXPECT_THAT(add({.kind = KeySlotKind::kRecovery, .label = "", .argon2 = kCheapArgon2}, "not a recovery key"),
              StatusIs(StatusCode::kInvalidArgument, "recovery key"));
  EXPECT_TRUE(slots_.slots.empty());
  EXPECT_THAT(EncodeKeySlots(slots_, mac_key()), StatusIs(StatusCode::kInvalidArgument, "no slot"));
}

TEST_F(KeySlotsTest, ThereAreAtMost64) {
  Add("alpha");
  while (slots_.slots.size() < kKeySlotsMax) {
    KeySlot copy = slots_.slots.back();
    copy.id = slots_.next_slot_id++;
    slots_.slots.push_back(copy);
  }
  EXPECT_THAT(AddKeySlot(slots_, master_, {}, SecretString("p"), random_), StatusIs(StatusCode::kResourceExhausted));
  EXPECT_OK(DecodeKeySlots(Encode()));
  slots_.slots.push_back(slots_.slots.back());
  slots_.slots.back().id = slots_.next_slot_id++;
  EXPECT_THAT(EncodeKeySlots(slots_, mac_key()), StatusIs(StatusCode::kInvalidArgument));
}

TEST_F(KeySlotsTest, SurviveEncoding) {
  Add("alpha");
  slots_.generation = 5;
  ASSERT_OK_AND_ASSIGN(KeySlots back, VerifyKeySlots(Encode(), repository_, mac_key()));
  EXPECT_EQ(back.generation, 5u);
  EXPECT_EQ(back.repository, repository_);
  EXPECT_EQ(back.next_slot_id, 2u);
  ASSERT_EQ(back.slots.size(), 1u);
  EXPECT_EQ(back.slots[0].label, "laptop");
  EXPECT_EQ(back.slots[0].created_unix_ns, 1);
  EXPECT_EQ(back.slots[0].salt, slots_.slots[0].salt);
}

TEST_F(KeySlotsTest, RefuseEveryTruncationAndFlippedBit) {
  Add("alpha");
  std::string blob = Encode();
  auto refused = [&](const std::string& damaged, const std::string& what) {
    EXPECT_THAT(DecodeKeySlots(damaged), StatusIs(StatusCode::kDataLoss)) << what;
    EXPECT_THAT(Open(damaged, "alpha"), StatusIs(StatusCode::kDataLoss)) << what;
  };
  ForEveryTruncation(blob, refused);
  ForEveryFlippedBit(blob, refused);
}

TEST_F(KeySlotsTest, RefuseEveryForgedBitOnceTheMasterIsKnown) {
  Add("alpha");
  ForEveryForgedBit(Encode(), [&](const std::string& damaged, const std::string& what) {
    EXPECT_FALSE(VerifyKeySlots(damaged, repository_, mac_key()).ok()) << what;
  });
}

TEST_F(KeySlotsTest, AnAlteredSetIsRefusedThoughThePasswordOpensASlot) {
  Add("alpha");
  Add("beta");
  format::v1::KeySlots message = Record();
  message.mutable_slots(1)->set_label("changed by the storage");
  std::string part = EnvelopeSignedPart(std::string_view("HFSLOT1\0", 8), message.SerializeAsString());
  std::string forged = FinishEnvelope(part, std::string(32, 'm'));
  EXPECT_THAT(Open(forged, "alpha"), StatusIs(StatusCode::kDataLoss, "MAC"));

  message = Record();
  message.mutable_slots()->RemoveLast();
  part = EnvelopeSignedPart(std::string_view("HFSLOT1\0", 8), message.SerializeAsString());
  EXPECT_THAT(Open(FinishEnvelope(part, std::string(32, 'm')), "alpha"), StatusIs(StatusCode::kDataLoss, "MAC"));
}

TEST_F(KeySlotsTest, AWrappedKeyOfAnotherSlotKindOrDamagedIsNotTakenForAWrongPassword) {
  Add("alpha");
  format::v1::KeySlots message = Record();
  (*message.mutable_slots(0)->mutable_wrapped_master())[20] ^= 1;
  EXPECT_THAT(Open(EncodeRecord(message), "alpha"), StatusIs(StatusCode::kDataLoss, "slot 1"));
}

TEST_F(KeySlotsTest, ParametersOutsideOfTheLimitsAreRefusedBeforeAnyWork) {
  Add("alpha");
  struct {
    uint32_t memory_kib, passes;
  } bad[] = {{1, 1},         {19 * 1024 - 1, 1}, {1024 * 1024 + 1, 1},   {UINT32_MAX, 1},
             {19 * 1024, 0}, {19 * 1024, 17},    {19 * 1024, UINT32_MAX}};
  for (const auto& p : bad) {
    format::v1::KeySlots message = Record();
    // The bad slot comes last: the good one before it must not have been tried.
    *message.add_slots() = message.slots(0);
    message.mutable_slots(1)->set_id(2);
    message.set_next_slot_id(3);
    message.mutable_slots(1)->set_argon2_memory_kib(p.memory_kib);
    message.mutable_slots(1)->set_argon2_passes(p.passes);
    EXPECT_THAT(Open(EncodeRecord(message), "alpha"), StatusIs(StatusCode::kDataLoss, "Argon2"))
        << p.memory_kib << " KiB, " << p.passes;
  }
}

TEST_F(KeySlotsTest, RecordsThatBreakARuleAreRefused) {
  Add("alpha");
  auto refuse = [&](const char* what, StatusCode code, const std::function<void(format::v1::KeySlots&)>& change) {
    format::v1::KeySlots message = Record();
    change(message);
    EXPECT_THAT(Open(EncodeRecord(message), "alpha"), StatusIs(code)) << what;
  };
  refuse("no slot", StatusCode::kDataLoss, [](auto& m) { m.clear_slots(); });
  refuse("generation 0", StatusCode::kDataLoss, [](auto& m) { m.set_generation(0); });
  refuse("generation 2^32", StatusCode::kDataLoss, [](auto& m) { m.set_generation(1ull << 32); });
  refuse("id 0", StatusCode::kDataLoss, [](auto& m) { m.mutable_slots(0)->set_id(0); });
  refuse("id twice", StatusCode::kDataLoss, [](auto& m) { *m.add_slots() = m.slots(0); });
  refuse("next id taken", StatusCode::kDataLoss, [](auto& m) { m.set_next_slot_id(1); });
  refuse("short salt", StatusCode::kDataLoss, [](auto& m) { m.mutable_slots(0)->mutable_salt()->pop_back(); });
  refuse("short id", StatusCode::kDataLoss, [](auto& m) { m.mutable_repository_id()->pop_back(); });
  refuse("long label", StatusCode::kDataLoss, [](auto& m) { m.mutable_slots(0)->set_label(std::string(129, 'x')); });
  refuse("unknown kind", StatusCode::kFailedPrecondition,
         [](auto& m) { m.mutable_slots(0)->set_kind(static_cast<format::v1::KeySlot::Kind>(3)); });
  refuse("no kind", StatusCode::kFailedPrecondition, [](auto& m) { m.mutable_slots(0)->clear_kind(); });
}

TEST_F(KeySlotsTest, AreBoundToTheirRepository) {
  Add("alpha");
  RepositoryId other = CountingId<RepositoryId>(1);
  EXPECT_THAT(OpenMaster(Encode(), other, SecretString("alpha")),
              StatusIs(StatusCode::kDataLoss, "another repository"));
  // With the id replaced as well the wrapped key does not open.
  format::v1::KeySlots message = Record();
  message.set_repository_id(std::string(other.view()));
  EXPECT_THAT(OpenMaster(EncodeRecord(message), other, SecretString("alpha")), StatusIs(StatusCode::kDataLoss));
}

TEST_F(KeySlotsTest, ANewerVersionIsSaidToBeOne) {
  Add("alpha");
  std::string blob = Encode();
  blob[6] = '2';
  EXPECT_THAT(Open(WithFreshChecksum(blob), "alpha"), StatusIs(StatusCode::kFailedPrecondition, "newer version"));
}

TEST(RecoveryKey, SurvivesEverySensibleSpelling) {
  CountingRandom random;
  SecretString key = GenerateRecoveryKey(random);
  std::string canonical(key.ExposeView());
  EXPECT_EQ(canonical.size(), 36u);
  std::string printed(FormatRecoveryKey(key).ExposeView());
  EXPECT_EQ(printed.size(), 44u);
  EXPECT_EQ(printed[4], '-');
  std::string lower = printed, spaced = printed, look_alike = canonical;
  for (char& c : lower) c = static_cast<char>(std::tolower(c));
  for (char& c : spaced) c = c == '-' ? ' ' : c;
  for (char& c : look_alike) c = c == '1' ? 'l' : c == '0' ? 'o' : c;
  for (const std::string& typed : {canonical, printed, lower, " " + spaced + "\n", look_alike}) {
    auto parsed = ParseRecoveryKey(typed);
    ASSERT_OK(parsed);
    EXPECT_EQ(parsed->ExposeView(), canonical) << typed;
  }
}

TEST(RecoveryKey, SaysWhatIsWrong) {
  CountingRandom random;
  std::string key(GenerateRecoveryKey(random).ExposeView());
  EXPECT_THAT(ParseRecoveryKey(""), StatusIs(StatusCode::kInvalidArgument, "0 characters"));
  EXPECT_THAT(ParseRecoveryKey(key.substr(1)), StatusIs(StatusCode::kInvalidArgument, "35 characters"));
  EXPECT_THAT(ParseRecoveryKey(key + "0"), StatusIs(StatusCode::kInvalidArgument, "37 characters"));
  std::string bad = key;
  bad[6] = 'u';
  EXPECT_THAT(ParseRecoveryKey(bad), StatusIs(StatusCode::kInvalidArgument, "character 7"));
  bad[6] = '\0';
  EXPECT_THAT(ParseRecoveryKey(bad), StatusIs(StatusCode::kInvalidArgument, "character 7"));
}

// 16 bits of checksum: of all single mistakes in one key a few may pass, and with this key none does.
TEST(RecoveryKey, NoticesEverySingleMistake) {
  CountingRandom random;
  std::string key(GenerateRecoveryKey(random).ExposeView());
  for (size_t i = 0; i < key.size(); ++i) {
    for (char c : std::string_view("0123456789ABCDEFGHJKMNPQRSTVWXYZ")) {
      if (c == key[i]) continue;
      std::string bad = key;
      bad[i] = c;
      EXPECT_THAT(ParseRecoveryKey(bad), StatusIs(StatusCode::kInvalidArgument, "checksum")) << i << c;
    }
  }
}

}  // namespace
}  // namespace holdfast
