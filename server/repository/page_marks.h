// Which tree pages a committed snapshot reaches: the marks of the index that decide whether a page is promised (S2).
// A page is marked when it and everything below it are here and not known to be damaged; any other is unmarked, so that
// clients send it again with what it lacks. Marks are hints that may be lost at any time, and are made anew here.
#ifndef HOLDFAST_SERVER_REPOSITORY_PAGE_MARKS_H_
#define HOLDFAST_SERVER_REPOSITORY_PAGE_MARKS_H_

#include "absl/types/span.h"
#include "core/base/ids.h"
#include "core/base/status.h"
#include "server/index/chunk_index.h"
#include "server/repository/warnings.h"
#include "storage/pack/pack_reader.h"

namespace holdfast {

enum class PageWalk {
  kUnmarkedOnly,  // what is marked already is right, and is not descended into
  kAll            // marks may be wrong
};

// Gives the pages below `roots` their marks. Blocking; costs a read of the header of each page that is walked, and
// about 100 bytes of memory for each. A copy that cannot be read is named in `warnings`; a page of which no copy can is
// noted as damaged, which leaves the marks stale once more. UNAVAILABLE: an outage; what was marked before it stays.
absl::Status MarkPages(ChunkIndex& index, PackReader& reader, absl::Span<const ChunkId> roots, PageWalk walk,
                       Warnings& warnings);

}  // namespace holdfast

#endif  // HOLDFAST_SERVER_REPOSITORY_PAGE_MARKS_H_
