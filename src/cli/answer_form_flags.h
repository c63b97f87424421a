// What form an answer must have.
#pragma once

#include <CLI/CLI.hpp>
#include <optional>
#include <string>

#include "runtime/engine.h"

namespace fovea {

struct AnswerFormFlags {
  std::optional<std::string> json_schema;  // a file, or the schema itself
  bool json_object = false;

  void add_to(CLI::App& command);
  // Answers that these options ask for are held to the form. Throws FieldError naming the place in the
  // schema.
  void apply(GenerationOptions& options, const Engine& engine) const;
};

}  // namespace fovea
