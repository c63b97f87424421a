// Goal: the guide's tables of fields are the tables that requests are read by. Method: they are written from
// them again.
#include "api/request_field_table.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <fstream>
#include <iterator>
#include <string>

namespace fovea {
namespace {

std::string table_of(std::span<const RequestField> fields) {
  using Use = RequestField::Use;
  std::string text = "| field | | what it says |\n| --- | --- | --- |\n";
  for (const RequestField& field : fields) {
    const std::string nothing = field.nothing;
    const std::string use = field.use == Use::read      ? "read"
                            : field.use == Use::neutral ? "accepted, changes nothing"
                            : field.use == Use::hint    ? "accepted with a warning"
                            : nothing == "[]"
                                ? "refused"
                                : fmt::format("only `{}`", nothing.substr(1, nothing.size() - 2));
    text += fmt::format("| `{}` | {} | {} |\n", field.name, use, field.what);
  }
  return text;
}

TEST(RequestFieldTable, TheGuideHasItAsItIs) {
  std::ifstream file(FOVEA_SOURCE_DIR "/docs/guide/server.md");
  const std::string guide{std::istreambuf_iterator<char>(file), {}};
  const std::string table = table_of(request_fields());
  EXPECT_NE(guide.find(table), guide.npos) << "docs/guide/server.md must have:\n" << table;
}

}  // namespace
}  // namespace fovea
