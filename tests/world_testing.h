// For tests that run alone and as several ranks (tests/CMakeLists.txt): the end of the world, and what is
// asked.
#pragma once

#include <gtest/gtest.h>

#include <filesystem>

#include "comm/world.h"
#include "runtime/engine.h"

namespace fovea::world_testing {

struct EndOfWorld : testing::Environment {
  void TearDown() override { finish_world(); }
};
inline const auto* const kEnd = testing::AddGlobalTestEnvironment(new EndOfWorld);

inline const std::filesystem::path kGoldens = std::filesystem::path(FOVEA_SOURCE_DIR) / "tests" / "golden";
// Three layers, five parts.
inline const std::filesystem::path kDemo = std::filesystem::path(FOVEA_SOURCE_DIR) / "models" / "fovea-demo";

// A text with two places for images, and the two of a golden checkpoint.
inline Prompt ask(const Engine& engine, const std::string& text,
                  const std::filesystem::path& model = kGoldens / "two_images") {
  return engine.prepare(
      messages_from_prompt(
          text, {(model / "inputs" / "image0.png").string(), (model / "inputs" / "image1.png").string()}, {},
          {}),
      {}, false);
}

}  // namespace fovea::world_testing
