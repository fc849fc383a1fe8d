#include "server/repository/snapshot_committer.h"

#include <memory>
#include <utility>

#include "absl/strings/str_cat.h"

namespace holdfast {
namespace {

constexpr size_t kMissingMax = 1000;
constexpr size_t kManifestCoreBytesMax = 8192;  // a page of 1,000 of them fits a message

}  // namespace

struct SnapshotCommitter::Checked {
  std::weak_ptr<ChunkIndex> index;  // not held while the storage takes its time
  std::vector<ChunkId> pages;
};

SnapshotCommitter::SnapshotCommitter(const RepositoryId& repository, Parts parts)
    : repository_(repository), parts_(std::move(parts)) {}

// A stub, which only a record about the snapshot left, has no source.
std::optional<CatalogSnapshot> SnapshotCommitter::InLog(const ManifestId& id) const {
  std::optional<CatalogSnapshot> known = parts_.catalog.Find(id);
  if (known && known->source.empty()) return std::nullopt;
  return known;
}

std::optional<CommitResult> SnapshotCommitter::Committed(const ManifestId& id) const {
  std::optional<CatalogSnapshot> known = InLog(id);
  if (!known || known->deleted) return std::nullopt;
  return CommitResult{id, known->server_time};
}

absl::StatusOr<CommitResult> SnapshotCommitter::Commit(const Principal& who, const SessionId& id,
                                                       std::string_view manifest, std::vector<ChunkId>* missing) {
  const ManifestId manifest_id = ManifestIdOf(manifest);
  std::optional<CommitResult> committed;
  ASSIGN_OR_RETURN(std::unique_ptr<SessionTable::Turn> turn, parts_.sessions.BeginCommit(who, id, [&] {
    committed = Committed(manifest_id);
    return committed.has_value();
  }));
  if (!turn) return *committed;
  return CommitInTurn(*turn, manifest, missing);
}

// The same record again as the next thing settles it and writes nothing twice.
absl::Status SnapshotCommitter::Settle(SessionTable::Turn& turn) {
  std::optional<CommittedRecord>& unsettled = turn.unsettled();
  if (unsettled && !InLog(unsettled->manifest)) {
    RETURN_IF_ERROR(Annotate(parts_.log.Append(*unsettled).status(), "settling an earlier commit of the source"));
  }
  unsettled.reset();
  return absl::OkStatus();
}

absl::StatusOr<CommitResult> SnapshotCommitter::CommitInTurn(SessionTable::Turn& turn, std::string_view manifest,
                                                             std::vector<ChunkId>* missing) {
  // 1. Is it a manifest of this session, and the next of its source? The source has one session, so nobody else moves
  //    its head.
  ASSIGN_OR_RETURN(const ParsedManifest parsed, ParseFor(turn, manifest));
  RETURN_IF_ERROR(Settle(turn));
  if (std::optional<CommitResult> committed = Committed(parsed.id)) return *committed;  // it was this one
  RETURN_IF_ERROR(CheckIsNext(turn, parsed));
  // 2. Everything uploaded is stored (W2). Packs of other sessions, too: this one may have been promised their chunks.
  RETURN_IF_ERROR(parts_.store_all());
  // 3. Is what it needs really there?
  ASSIGN_OR_RETURN(const ChunkId root, ChunkId::FromBytes(parsed.core.root_id()));
  ASSIGN_OR_RETURN(const Checked checked, CheckChunks(turn, root, missing));
  // 4. The manifest, before the slot that commits it (W3).
  RETURN_IF_ERROR(Annotate(parts_.manifests.Put(parsed.id, manifest), "storing the manifest"));
  Reached(parts_.crash_point, "manifest-put");
  // 5. The commit point, before the client hears of it (W4).
  Reached(parts_.crash_point, "log-put-before");
  RETURN_IF_ERROR(AppendToLog(turn, parsed));
  Reached(parts_.crash_point, "log-put-after");
  // 6. Hints for later; the snapshot is committed whatever happens to them. Lower pages first: whoever finds a page
  //    marked does not look below it.
  absl::Status marked = Mark(checked);
  if (!marked.ok()) parts_.warnings.Add(absl::StrCat("marking pages: ", marked.message()));
  return Committed(parsed.id).value_or(CommitResult{parsed.id, parts_.clock.Wall()});
}

absl::StatusOr<ParsedManifest> SnapshotCommitter::ParseFor(const SessionTable::Turn& turn,
                                                           std::string_view manifest) const {
  absl::StatusOr<ParsedManifest> parsed = ParseManifest(manifest);
  if (!parsed.ok()) return absl::InvalidArgumentError(parsed.status().message());
  const pb::ManifestCore& core = parsed->core;
  if (parsed->manifest.core().size() > kManifestCoreBytesMax) {
    return absl::InvalidArgumentError("the manifest's core is too large");
  }
  if (core.repository_id() != repository_.view() || core.source() != turn.source() || core.agent() != turn.agent()) {
    return absl::InvalidArgumentError("the manifest belongs to another repository, source or agent than the session");
  }
  return parsed;
}

absl::Status SnapshotCommitter::CheckIsNext(const SessionTable::Turn& turn, const ParsedManifest& parsed) const {
  std::optional<CatalogSnapshot> head = parts_.catalog.Head(turn.source());
  const std::string_view expected = head ? head->id.view() : std::string_view();
  if (parsed.core.previous_manifest() == expected && parsed.core.sequence() == (head ? head->sequence : 0) + 1) {
    return absl::OkStatus();
  }
  return absl::AbortedError(absl::StrCat("another snapshot of ", turn.source(), " was committed meanwhile"));
}

// Every page was accepted only with all its children known (S2), so the new pages and the root are enough.
absl::StatusOr<SnapshotCommitter::Checked> SnapshotCommitter::CheckChunks(SessionTable::Turn& turn, const ChunkId& root,
                                                                          std::vector<ChunkId>* missing) {
  Checked checked;
  bool root_known = false;
  ASSIGN_OR_RETURN(checked.pages, turn.NewPages(root, &root_known));
  if (!root_known) missing->push_back(root);
  ASSIGN_OR_RETURN(std::shared_ptr<ChunkIndex> index, parts_.index.Get());
  checked.index = index;
  std::vector<ChunkId> check = checked.pages;
  check.push_back(root);
  auto locations = index->Lookup(check);
  if (!locations.ok()) return parts_.index.Note(locations.status());
  for (size_t i = 0; i < check.size() && missing->size() < kMissingMax; ++i) {
    if (!(*locations)[i]) missing->push_back(check[i]);
  }
  if (!missing->empty()) return absl::FailedPreconditionError("chunks of the snapshot are not stored");
  return checked;
}

absl::Status SnapshotCommitter::Mark(const Checked& checked) {
  ASSIGN_OR_RETURN(std::shared_ptr<ChunkIndex> index, parts_.index.Get());
  // One that was made anew may lack what lies below the pages. Unmarked, they are sent again with what they lack.
  if (index != checked.index.lock()) return absl::AbortedError("the index was made anew meanwhile");
  return parts_.index.Note(index->MarkCommitted(checked.pages));
}

absl::Status SnapshotCommitter::AppendToLog(SessionTable::Turn& turn, const ParsedManifest& parsed) {
  CommittedRecord record;
  record.manifest = parsed.id;
  record.source = turn.source();
  record.sequence = parsed.core.sequence();
  record.agent = turn.agent();
  record.session = HexEncode(turn.id().view());
  record.core = parsed.manifest.core();
  absl::Status appended = parts_.log.Append(record).status();
  // Outcome unknown: the same record settles it before anything else of this source.
  if (absl::IsUnavailable(appended)) turn.unsettled() = std::move(record);
  return appended;
}

}  // namespace holdfast
