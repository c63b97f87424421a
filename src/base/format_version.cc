#include "base/format_version.h"

#include "base/error.h"

namespace fovea {

const char* program_version() { return FOVEA_VERSION; }

void check_version(const FileFormat& format, int64_t found, const std::string& where) {
  if (found >= format.oldest && found <= format.version) return;
  const bool newer = found > format.version;
  throw Error(
      ErrorKind::unsupported,
      fmt::format("{} was made by {} fovea: this {} has version {}, fovea {} reads {}", where,
                  newer ? "a newer" : "an older", format.name, found, program_version(),
                  format.oldest == format.version ? fmt::format("{}", format.version)
                                                  : fmt::format("{} to {}", format.oldest, format.version)),
      newer ? fmt::format("update fovea, or {}", format.remake) : std::string(format.remake));
}

}  // namespace fovea
