// holdfast repository create | unlock | lock | status | list | password | recovery-key
#include <memory>
#include <optional>
#include <string>

#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "client/cli/commands.h"
#include "client/cli/exit_code.h"
#include "client/keys/repository_keys.h"
#include "core/base/repository_name.h"
#include "core/base/utf8.h"
#include "core/keys/credentials.h"
#include "core/keys/recovery_key.h"
#include "core/keys/settings.h"

namespace holdfast {
namespace {

constexpr const char* kNewPasswordVariable = "HOLDFAST_NEW_PASSWORD";
constexpr const char* kAes = "aes-256-gcm";
constexpr const char* kChaCha = "chacha20-poly1305";

struct RepositoryArguments {
  std::string name = "default";
  bool recovery_key = false;
  std::string encryption = kAes;
  bool padding = false;
  std::string new_password_file;
};

std::string RecoveryKeyAdvice() {
  return "Write it down and keep it away from this machine. It opens the repository like the password does,\n"
         "and it is shown only now.";
}

const char* EncryptionName(AeadAlgorithm aead) { return aead == AeadAlgorithm::kChaCha20Poly1305 ? kChaCha : kAes; }

// Shows a recovery key. It works from now on and exists nowhere else: where standard output does not take it, it goes
// to standard error.
absl::Status Show(Context& context, const SecretString& printed_key, const absl::Status& written) {
  absl::Status status = written.ok() ? context.out().Flush() : written;
  if (!status.ok() && !printed_key.empty()) {
    context.Say(absl::StrCat("holdfast: the recovery key could not be written to standard output; it is\n  ",
                             AbslView(printed_key.ExposeView())));
  }
  return status;
}

absl::StatusOr<std::optional<v1::RepositoryInfo>> FindRepository(Context& context, const std::string& name) {
  RETURN_IF_ERROR(AsUsage(CheckRepositoryName(name)));
  ASSIGN_OR_RETURN(auto all, context.ListRepositories());
  for (v1::RepositoryInfo& info : all) {
    if (info.name() == name) return std::make_optional(std::move(info));
  }
  return std::optional<v1::RepositoryInfo>();
}

absl::StatusOr<ExitCode> Create(const RepositoryArguments& arguments, Context& context) {
  ASSIGN_OR_RETURN(auto existing, FindRepository(context, arguments.name));
  if (existing) {
    return absl::AlreadyExistsError(absl::StrCat("repository \"", arguments.name,
                                                 "\" exists already\n  Give another name: holdfast repository create "
                                                 "NAME"));
  }
  ASSIGN_OR_RETURN(SecretString password,
                   GetPassword(context.options().password,
                               absl::StrCat("New password of repository \"", arguments.name, "\""), true));
  bool wants_recovery_key = arguments.recovery_key;
  if (!wants_recovery_key && !context.json()) {
    wants_recovery_key = AskYesNo("Print a recovery key, in case the password is forgotten?", CanPrompt());
  }
  SecretString recovery_key;
  if (wants_recovery_key) recovery_key = GenerateRecoveryKey(context.io().random);
  RepositoryToCreate repository;
  repository.name = arguments.name;
  repository.aead = arguments.encryption == kChaCha ? AeadAlgorithm::kChaCha20Poly1305 : AeadAlgorithm::kAes256Gcm;
  repository.padding = arguments.padding;
  ASSIGN_OR_RETURN(v1::CreateRepositoryRequest request,
                   CreateRepositoryKeys(repository, password, recovery_key, context.io()));
  ASSIGN_OR_RETURN(RepositoryClient * server, context.server());
  RETURN_IF_ERROR(server->CreateRepository(request));
  const SecretString printed_key = wants_recovery_key ? FormatRecoveryKey(recovery_key) : SecretString();
  if (context.json()) {
    Json out;
    out["name"] = arguments.name;
    out["repository_id"] = HexEncode(request.repository_id());
    out["recovery_key"] = nullptr;
    if (wants_recovery_key) out["recovery_key"] = printed_key.ExposeView();
    RETURN_IF_ERROR(Show(context, printed_key, context.out().WriteJson(out)));
    return ExitCode::kOk;
  }
  std::string text = absl::StrFormat("Repository \"%s\" created.\n", arguments.name);
  if (wants_recovery_key) {
    absl::StrAppend(&text, "\nRecovery key:\n  ", AbslView(printed_key.ExposeView()), "\n", RecoveryKeyAdvice(), "\n");
  } else {
    text += "Without the password nobody can read it: \"holdfast repository recovery-key\" prints a spare key.\n";
  }
  text += "For backups without a password: holdfast repository unlock";
  if (arguments.name != "default") text += " " + arguments.name;
  RETURN_IF_ERROR(Show(context, printed_key, context.out().Write(text + "\n")));
  return ExitCode::kOk;
}

absl::StatusOr<ExitCode> Unlock(const RepositoryArguments& arguments, Context& context) {
  ASSIGN_OR_RETURN(RepositoryAccess * access, context.OwnerAccess(arguments.name));
  ASSIGN_OR_RETURN(AgentCredentials credentials, access->Unlock());
  ASSIGN_OR_RETURN(RepositoryAccess::Place place, context.PlaceOf(arguments.name));
  const std::string path = RepositoryAccess::CredentialsPath(place);
  if (context.json()) {
    Json out;
    out["name"] = arguments.name;
    out["agent"] = credentials.agent_number;
    out["label"] = EscapeInvalidUtf8(credentials.label);
    SetName(out, "credentials", path);
    RETURN_IF_ERROR(context.out().WriteJson(out));
    return ExitCode::kOk;
  }
  RETURN_IF_ERROR(context.out().Write(absl::StrFormat(
      "Repository \"%s\" is unlocked on this machine, which is agent %d (%s).\n"
      "Backups, and restores of its own snapshots, need no password until \"holdfast repository lock\".\n"
      "What they need is in %s\n",
      arguments.name, credentials.agent_number, EscapeForTerminal(credentials.label), EscapeForTerminal(path))));
  return ExitCode::kOk;
}

// Needs no server.
absl::StatusOr<ExitCode> Lock(const RepositoryArguments& arguments, Context& context) {
  ASSIGN_OR_RETURN(RepositoryAccess::Place place, context.PlaceOf(arguments.name));
  absl::Status status = ForgetCredentials(context.io().files, RepositoryAccess::CredentialsPath(place));
  const bool was_unlocked = !absl::IsNotFound(status);
  if (was_unlocked) RETURN_IF_ERROR(status);
  if (context.json()) {
    RETURN_IF_ERROR(context.out().WriteJson({{"name", arguments.name}, {"was_unlocked", was_unlocked}}));
    return ExitCode::kOk;
  }
  RETURN_IF_ERROR(context.out().Write(
      absl::StrFormat("Repository \"%s\" %s.\n", arguments.name,
                      was_unlocked ? "is locked: commands ask for its password again" : "was not unlocked here")));
  return ExitCode::kOk;
}

Json RepositoryJson(const v1::RepositoryInfo& info) {
  Json out;
  out["name"] = info.name();
  out["repository_id"] = HexEncode(info.repository_id());
  out["snapshots"] = info.snapshots();
  out["stored_bytes"] = info.stored_bytes();
  out["packs"] = info.packs();
  out["chunks"] = info.chunks();
  SetName(out, "storage", info.storage());
  out["error"] = nullptr;
  if (!info.error().empty()) out["error"] = EscapeInvalidUtf8(info.error());
  out["warnings"] = Json::array();
  for (const std::string& warning : info.warnings()) out["warnings"].push_back(EscapeInvalidUtf8(warning));
  return out;
}

absl::StatusOr<ExitCode> Status(const RepositoryArguments& arguments, Context& context) {
  ASSIGN_OR_RETURN(auto found, FindRepository(context, arguments.name));
  ASSIGN_OR_RETURN(RepositoryClient * server, context.server());
  if (!found) return FetchKeys(*server, arguments.name).status();
  const v1::RepositoryInfo& info = *found;
  ASSIGN_OR_RETURN(RepositoryAccess::Place place, context.PlaceOf(arguments.name));
  absl::StatusOr<AgentCredentials> credentials =
      LoadCredentials(context.io().files, RepositoryAccess::CredentialsPath(place));
  std::vector<KeySlot> slots;
  std::optional<RepositorySettings> settings;
  std::string keys_error;
  absl::StatusOr<v1::GetKeysReply> keys = FetchKeys(*server, arguments.name);
  if (keys.ok()) {
    absl::StatusOr<KeySlots> decoded = DecodeKeySlots(keys->key_slots());
    if (decoded.ok()) slots = decoded->slots;
    if (!decoded.ok()) keys_error = std::string(decoded.status().message());
    absl::StatusOr<RepositorySettings> decoded_settings = DecodeSettings(keys->settings());
    if (decoded_settings.ok()) settings = *decoded_settings;
    if (!decoded_settings.ok() && keys_error.empty()) keys_error = std::string(decoded_settings.status().message());
  } else {
    keys_error = std::string(keys.status().message());
  }
  if (credentials.ok() && HexEncode(credentials->repository.view()) != HexEncode(info.repository_id())) {
    credentials = absl::FailedPreconditionError("no: what is remembered here is of another repository of that name");
  }
  const bool unlocked = credentials.ok();
  const bool is_usable = info.error().empty() && keys_error.empty();
  const ExitCode code = ExitCodeOf(Outcome{.failed = is_usable ? 0u : 1u});
  auto kind = [](const KeySlot& slot) { return slot.kind == KeySlotKind::kPassword ? "password" : "recovery key"; };
  if (context.json()) {
    Json out = RepositoryJson(info);
    ASSIGN_OR_RETURN(v1::GetServerInfoReply server_info, server->GetServerInfo());
    out["server_version"] = server_info.version();
    out["unlocked"] = unlocked;
    if (unlocked) out["agent"] = credentials->agent_number;
    if (!keys_error.empty()) out["keys_error"] = EscapeInvalidUtf8(keys_error);
    if (settings) {
      out["encryption"] = EncryptionName(settings->aead);
      out["padding"] = settings->padding;
    }
    out["key_slots"] = Json::array();
    for (const KeySlot& slot : slots) {
      out["key_slots"].push_back(
          {{"number", slot.id}, {"kind", kind(slot)}, {"created", FormatTimeJson(slot.created_unix_ns)}});
    }
    RETURN_IF_ERROR(context.out().WriteJson(out));
    return code;
  }
  std::string text = absl::StrFormat(
      "Repository  %s\nId          %s\nStorage     %s\nSnapshots   %d\nStored      %s in %d packs, %d chunks\n",
      info.name(), HexEncode(info.repository_id()), EscapeForTerminal(info.storage()), info.snapshots(),
      FormatBytes(info.stored_bytes()), info.packs(), info.chunks());
  if (settings) {
    absl::StrAppendFormat(&text, "Encryption  %s%s\n", EncryptionName(settings->aead),
                          settings->padding ? ", sizes padded" : "");
  }
  for (const KeySlot& slot : slots) {
    absl::StrAppendFormat(&text, "Key         %s, since %s\n", kind(slot), FormatTimeHuman(slot.created_unix_ns));
  }
  if (unlocked) {
    absl::StrAppendFormat(&text, "Unlocked    yes, as agent %d\n", credentials->agent_number);
  } else if (absl::IsNotFound(credentials.status())) {
    text += "Unlocked    no\n";
  } else {
    text += "Unlocked    " + EscapeForTerminal(StdView(credentials.status().message())) + "\n";
  }
  for (const std::string& warning : info.warnings()) text += "Warning     " + EscapeForTerminal(warning) + "\n";
  RETURN_IF_ERROR(context.out().Write(text));
  if (!info.error().empty()) context.Say("holdfast: not open: " + EscapeForTerminal(info.error()));
  if (!keys_error.empty()) context.Say("holdfast: keys: " + EscapeForTerminal(keys_error));
  return code;
}

absl::StatusOr<ExitCode> List(Context& context) {
  ASSIGN_OR_RETURN(auto all, context.ListRepositories());
  if (context.json()) {
    Json out = Json::array();
    for (const v1::RepositoryInfo& info : all) out.push_back(RepositoryJson(info));
    RETURN_IF_ERROR(context.out().WriteJson(out));
    return ExitCode::kOk;
  }
  if (all.empty()) context.Say("There are no repositories yet. Make one with: holdfast repository create");
  for (const v1::RepositoryInfo& info : all) {
    std::string line = absl::StrFormat("%-20s %6d snapshots  %10s  %s\n", info.name(), info.snapshots(),
                                       FormatBytes(info.stored_bytes()), EscapeForTerminal(info.storage()));
    if (!info.error().empty())
      line = absl::StrFormat("%-20s NOT OPEN: %s\n", info.name(), EscapeForTerminal(info.error()));
    RETURN_IF_ERROR(context.out().Write(line));
  }
  return ExitCode::kOk;
}

NewKeySlot SlotRequest(Context& context, KeySlotKind kind, const std::string& label) {
  NewKeySlot request;
  request.kind = kind;
  request.label = label;
  request.created_unix_ns = absl::ToUnixNanos(context.io().clock.Wall());
  return request;
}

absl::StatusOr<ExitCode> ChangePassword(const RepositoryArguments& arguments, Context& context) {
  RETURN_IF_ERROR(AsUsage(CheckRepositoryName(arguments.name)));
  ASSIGN_OR_RETURN(RepositoryClient * server, context.server());
  ASSIGN_OR_RETURN(v1::GetKeysReply keys, FetchKeys(*server, arguments.name));
  ASSIGN_OR_RETURN(SecretString old_password, context.Password(arguments.name));
  RETURN_IF_ERROR(OpenOwnerKeys(keys, old_password).status());  // before a new one is asked for
  PasswordSources sources{.file = arguments.new_password_file, .command = "", .environment = kNewPasswordVariable};
  ASSIGN_OR_RETURN(SecretString new_password, GetPassword(sources, "New password", true));
  // Who opened with the recovery key has forgotten the password: every password slot is replaced.
  auto is_replaced = [](const KeySlot& slot, uint32_t) { return slot.kind == KeySlotKind::kPassword; };
  RETURN_IF_ERROR(ReplaceKeySlots(*server, arguments.name, old_password,
                                  SlotRequest(context, KeySlotKind::kPassword, "password"), new_password, is_replaced,
                                  context.io()));
  if (context.json()) {
    RETURN_IF_ERROR(context.out().WriteJson({{"name", arguments.name}, {"password_changed", true}}));
    return ExitCode::kOk;
  }
  RETURN_IF_ERROR(context.out().Write(absl::StrFormat(
      "The password of repository \"%s\" is changed. Recovery keys and unlocked machines stay as they were.\n"
      "Whoever copied the repository's keys before could still use the old password on the copy.\n",
      arguments.name)));
  return ExitCode::kOk;
}

absl::StatusOr<ExitCode> NewRecoveryKey(const RepositoryArguments& arguments, Context& context) {
  RETURN_IF_ERROR(AsUsage(CheckRepositoryName(arguments.name)));
  ASSIGN_OR_RETURN(RepositoryClient * server, context.server());
  RETURN_IF_ERROR(FetchKeys(*server, arguments.name).status());
  ASSIGN_OR_RETURN(SecretString password, context.Password(arguments.name));
  const SecretString key = GenerateRecoveryKey(context.io().random);
  bool replaced = false;
  auto is_replaced = [&replaced](const KeySlot& slot, uint32_t) {
    replaced = replaced || slot.kind == KeySlotKind::kRecovery;
    return slot.kind == KeySlotKind::kRecovery;
  };
  const SecretString printed = FormatRecoveryKey(key);
  absl::Status replaced_slots =
      ReplaceKeySlots(*server, arguments.name, password, SlotRequest(context, KeySlotKind::kRecovery, "recovery key"),
                      key, is_replaced, context.io());
  // The old key may be gone already: then this is the only time that the new one can be shown.
  if (absl::IsUnavailable(replaced_slots)) {
    return Annotate(replaced_slots,
                    absl::StrCat("it is not known whether this recovery key works now: keep it and the one "
                                 "before, and try again: ",
                                 AbslView(printed.ExposeView())));
  }
  RETURN_IF_ERROR(replaced_slots);
  if (context.json()) {
    const Json out = {{"name", arguments.name}, {"recovery_key", printed.ExposeView()}, {"replaced", replaced}};
    RETURN_IF_ERROR(Show(context, printed, context.out().WriteJson(out)));
    return ExitCode::kOk;
  }
  const std::string text = absl::StrCat("Recovery key of repository \"", arguments.name, "\":\n  ",
                                        AbslView(printed.ExposeView()), "\n", RecoveryKeyAdvice(), "\n",
                                        replaced ? "The recovery key before this one does not work any more.\n" : "");
  RETURN_IF_ERROR(Show(context, printed, context.out().Write(text)));
  return ExitCode::kOk;
}

}  // namespace

void AddRepositoryCommands(CommandLine& line) {
  CLI::App* group = line.app.add_subcommand("repository", "Make, open and look at repositories");
  group->require_subcommand(1);
  auto arguments = std::make_shared<RepositoryArguments>();
  auto add = [&](const std::string& name, const std::string& description, const std::string& footer, auto function) {
    CLI::App* command = AddCommand(line, *group, name, description, footer,
                                   [arguments, function](Context& c) { return function(*arguments, c); });
    command->add_option("name", arguments->name, "The repository (default: \"default\")")->type_name("NAME");
    return command;
  };
  CLI::App* create = add("create", "Make a repository",
                         "Examples:\n  holdfast repository create\n  holdfast repository create photos --recovery-key\n"
                         "  HOLDFAST_PASSWORD=... holdfast repository create --json",
                         Create);
  create->add_flag("--recovery-key", arguments->recovery_key, "Print a recovery key without asking");
  create
      ->add_option("--encryption", arguments->encryption,
                   "aes-256-gcm, or chacha20-poly1305 for machines without AES instructions; stays as it is then")
      ->type_name("CIPHER")
      ->check(CLI::IsMember({kAes, kChaCha}))
      ->capture_default_str();
  create->add_flag("--padding", arguments->padding,
                   "Hide the exact sizes of what is stored from the server; takes about 1.5 % more space");
  add("unlock", "Let this machine back up and restore its own snapshots without a password",
      "Keeps what that needs in a file that only you can read. It opens no other machine's snapshots and holds "
      "neither\n"
      "the password nor the master key. Needed once, e.g. before a nightly backup by cron.\n\n"
      "Example:\n  holdfast repository unlock",
      Unlock);
  add("lock", "Forget what unlock remembered", "Example:\n  holdfast repository lock", Lock);
  add("status", "Show one repository",
      "Exit status 2 when it is damaged or not open.\n\nExample:\n  holdfast repository status --json", Status);
  AddCommand(line, *group, "list", "List the server's repositories", "Example:\n  holdfast repository list", List);
  add("password", "Change the password",
      "Asks for the old password (or takes the recovery key), then for the new one: from --new-password-file,\n"
      "HOLDFAST_NEW_PASSWORD, or the terminal. No data is encrypted again.\n\n"
      "Example:\n  holdfast repository password",
      ChangePassword)
      ->add_option("--new-password-file", arguments->new_password_file,
                   "Read the new password from the first line of FILE")
      ->type_name("FILE");
  add("recovery-key", "Print a new recovery key; one from before stops working",
      "The recovery key works wherever the password does.\n\nExample:\n  holdfast repository recovery-key",
      NewRecoveryKey);
}

}  // namespace holdfast
