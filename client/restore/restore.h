// Restore: writes a snapshot, or one path inside it, to a file system.
//
// What goes where. `path_inside` names a directory (empty: the root of the snapshot): its contents go into
// options.target, and the target gets that directory's own metadata. It names anything else: it becomes
// target/<its name>. The target is created when absent (parents too); existing directories are merged into and get the
// snapshot's metadata at the end.
//
// Safety. Every object is reached from a descriptor of the target, one checked name at a time, never through a symbolic
// link, whether it was there before, was restored, or appears meanwhile. A name that is empty, "." or "..", too long,
// or has '/' or NUL in it, is refused and listed. New directories are 0700 and new files closed to strangers until
// their owner is set. A directory's own metadata is set as soon as everything below it is done, so deepest first.
//
// Errors. Restore fails as a whole only when the chunk source or the target as a whole fails (source unreachable, no
// such path, disk full, read-only target, cancelled). Everything else is a RestoreProblem given to the observer, and
// the rest is restored:
//   kRepository  chunks or pages missing or damaged (DATA_LOSS, NOT_FOUND), or content that the backup could not read
//                (FAILED_PRECONDITION). The file is not there afterwards: a partly written one is removed; one that was
//                there before and was to be replaced stays as it was.
//   kTarget      the target refused (errno), a name is hostile, or re-reading found other bytes (DATA_LOSS).
//   kNote        not an error: something could not be kept but nothing is wrong with the content. Hard link members
//                whose content differs (restored apart), files that changed while they were read, attributes below.
// An ordinary user restoring files of his own gets no errors: owners are not restored (option off unless root), setuid
// and setgid are dropped from files whose owner or group is not restored, and extended attributes refused with
// EPERM/EACCES (trusted.*, security.*), or not supported by the target, are counted and noted once per class: what is
// before the first dot of their names. Attributes that exist on the target but not in the snapshot are left alone, but
// for access ACLs, which are rights.
//
// Threads and cost. Blocks; the calling thread plans (walks entries, makes directories, links and special files),
// options.threads workers fetch and write. Several restores may run in one process; into one target only as root, for
// an ordinary user is shut out of a directory that another restore has given a mode without rights. Nothing of the
// process is changed; its umask, which TargetDirectories and TargetFiles read when they are made, must stay what it is
// meanwhile, and costs a chmod where it takes a bit that the snapshot has. About 5 system calls per small file. Memory:
// options.memory_bytes on top of what the source holds, and about 60 bytes per hard link group of which not all members
// have been seen. No fsync (but with `verify`).
#ifndef HOLDFAST_CLIENT_RESTORE_RESTORE_H_
#define HOLDFAST_CLIENT_RESTORE_RESTORE_H_

#include "client/restore/restore_input.h"
#include "client/restore/restore_observer.h"
#include "client/restore/restore_options.h"
#include "core/base/status.h"
#include "core/tree/entry.h"
#include "core/tree/snapshot_reader.h"

namespace holdfast {

// Statistics are returned whatever files had errors: look at errors().
absl::StatusOr<RestoreStats> Restore(RestoreInput& input, const Components& path_inside, const RestoreOptions& options,
                                     RestoreObserver& observer);
// The same for a snapshot in a repository (snapshot_restore.cc).
absl::StatusOr<RestoreStats> Restore(const SnapshotReader& snapshot, const Components& path_inside,
                                     const RestoreOptions& options, RestoreObserver& observer);

}  // namespace holdfast

#endif  // HOLDFAST_CLIENT_RESTORE_RESTORE_H_
