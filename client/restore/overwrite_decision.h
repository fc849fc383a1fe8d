// What a restore does with a name under which something may be already. A pure function of the mode, of what is there
// and of what is to be there; docs of the modes: restore_options.h.
#ifndef HOLDFAST_CLIENT_RESTORE_OVERWRITE_DECISION_H_
#define HOLDFAST_CLIENT_RESTORE_OVERWRITE_DECISION_H_

#include <sys/stat.h>

#include <optional>

#include "client/restore/restore_options.h"
#include "core/tree/entry.h"

namespace holdfast {

enum class OverwriteDecision {
  kCreate,           // nothing is there
  kReplace,          // make it beside and rename it over what is there
  kOnlySetMetadata,  // what is there has this content
  kSkip,             // leave it; no error
  kRefuse,           // leave it; an error: it exists
  kRefuseDirectory,  // leave it; an error: a directory is in its place
};

struct WhatIsThere {
  struct stat st = {};
  bool is_same_symlink = false;  // both are symbolic links to the same target
};

struct WhatIsToBe {
  const Entry& entry;            // not of a directory
  bool gives_rights = false;     // setuid, setgid or capabilities
  bool is_further_name = false;  // a hard link to what was restored before
};

OverwriteDecision DecideOverwrite(OverwriteMode mode, const std::optional<WhatIsThere>& there, const WhatIsToBe& to_be);

}  // namespace holdfast

#endif  // HOLDFAST_CLIENT_RESTORE_OVERWRITE_DECISION_H_
