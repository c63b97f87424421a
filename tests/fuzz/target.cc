#include "target.h"

#include <cstdio>
#include <cstdlib>

#include "base/error.h"

namespace fovea::fuzz {
namespace {

std::vector<Target>& registered() {
  static std::vector<Target> list;
  return list;
}

}  // namespace

const std::vector<Target>& targets() { return registered(); }

Registration::Registration(const char* name, void (*read)(std::string_view)) {
  registered().push_back({name, read});
}

void require(bool holds, const char* property) {
  if (holds) return;
  std::fprintf(stderr, "this does not hold: %s\n", property);
  std::abort();
}

bool run(const Target& target, std::string_view bytes) {
  try {
    target.read(bytes);
    return true;
  } catch (const Error& error) {
    require(!error.message().empty(), "an error has a message");
    require(!error.remedy().empty(), "an error has a remedy");
    require(std::string_view(error.what()).size() < 40000, "an error can be read");
    return false;
  }
}

}  // namespace fovea::fuzz
