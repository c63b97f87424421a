// Versions of what fovea writes and reads again. Each stands in the file as the number of its layout, which
// rises when an older program would misread it; fields that are only added leave it as it is.
#pragma once

#include <cstdint>
#include <string>

namespace fovea {

// Of the program: major.minor.patch, as the build's project() states it.
const char* program_version();

struct FileFormat {
  const char* name;         // in words
  int64_t version, oldest;  // written; still read
  const char* remake;       // how to come by a new one
};

inline constexpr FileFormat kQuantizedFolder{"folder of fovea quantize", 1, 1,
                                             "make the folder again with fovea quantize"};
inline constexpr FileFormat kAuditState{"state of an audit", 2, 2,
                                        "delete the file; the audit then begins anew"};
inline constexpr FileFormat kAuditJson{"audit's JSON", 1, 1, "make the audit again"};
inline constexpr FileFormat kMachineLimits{"file of this machine's limits", 1, 1,
                                           "delete the file; fovea advise measures again"};

// Throws Error(unsupported) naming `where` for a version that this program does not read, one written by a
// newer fovea or one that is no longer understood.
void check_version(const FileFormat& format, int64_t found, const std::string& where);

}  // namespace fovea
