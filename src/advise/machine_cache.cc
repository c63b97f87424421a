#include "advise/machine_cache.h"

#include <fmt/format.h>

#include <cmath>
#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>
#include <utility>

#include "base/error.h"
#include "base/format_version.h"
#include "base/output_file.h"

namespace fovea {

namespace {

using nlohmann::ordered_json;

// Between the least that any machine of the last twenty years reaches and the most of a rack of them.
struct Field {
  const char* name;
  double bench::Limits::*value;
  double least, most;
};
constexpr Field kFields[] = {{"read_gbps", &bench::Limits::read_gbps, 0.05, 1e5},
                             {"bf16_gflops", &bench::Limits::bf16_gflops, 0.05, 1e7},
                             {"fp32_gflops", &bench::Limits::fp32_gflops, 0.05, 1e7},
                             {"int8_gops", &bench::Limits::int8_gops, 0.05, 1e7}};

// A number in the entry that lies between two others, or nothing.
std::optional<double> number_in(const ordered_json& entry, const char* name, double least, double most) {
  const auto found = entry.find(name);
  if (found == entry.end() || !found->is_number()) return std::nullopt;
  const auto value = found->get<double>();
  return std::isfinite(value) && value >= least && value <= most ? std::optional(value) : std::nullopt;
}

// The machines that the file knows; `note` says why there are none.
ordered_json machines_of(const std::filesystem::path& path, std::string& note) {
  constexpr std::streamsize kLongest = 1 << 20;
  std::error_code unknown;
  if (!std::filesystem::exists(path, unknown) && !unknown) return ordered_json::object();
  std::ifstream file(path, std::ios::binary);
  std::string text(static_cast<size_t>(kLongest) + 1, '\0');
  file.read(text.data(), kLongest + 1);
  text.resize(static_cast<size_t>(std::max<std::streamsize>(file.gcount(), 0)));
  const bool readable = !text.empty() && text.size() <= static_cast<size_t>(kLongest);
  ordered_json json = readable ? ordered_json::parse(text, nullptr, false) : ordered_json();
  if (!json.is_object()) {
    note = fmt::format("{} cannot be read as JSON", path.string());
  } else if (json.value("version", ordered_json()) != kMachineLimits.version || !json.contains("machines") ||
             !json["machines"].is_object()) {
    note = fmt::format("{} is of another version of fovea", path.string());
  } else {
    return json["machines"];
  }
  return ordered_json::object();
}

std::optional<Measured> measured_of(const ordered_json& entry) {
  if (!entry.is_object()) return std::nullopt;
  Measured measured;
  for (const Field& field : kFields) {
    const std::optional<double> value = number_in(entry, field.name, field.least, field.most);
    if (!value) return std::nullopt;
    measured.limits.*field.value = *value;
  }
  const std::optional<double> load = number_in(entry, "load", 0, 1e6);
  const auto when = entry.find("when");
  if (!load || when == entry.end() || !when->is_string()) return std::nullopt;
  measured.load = *load;
  measured.when = when->get<std::string>();
  return measured.when.size() < 32 ? std::optional(measured) : std::nullopt;
}

}  // namespace

std::optional<Measured> read_measured(const std::filesystem::path& file, const std::string& key,
                                      std::string& note) {
  const ordered_json machines = machines_of(file, note);
  const auto entry = machines.find(key);
  if (entry == machines.end()) return std::nullopt;
  const std::optional<Measured> measured = measured_of(*entry);
  if (!measured) note = fmt::format("what {} says of this machine makes no sense", file.string());
  return measured;
}

std::string keep_measured(const std::filesystem::path& file, const std::string& key,
                          const Measured& measured) {
  std::string ignored;
  ordered_json machines = machines_of(file, ignored);
  ordered_json entry;
  for (const Field& field : kFields) entry[field.name] = measured.limits.*field.value;
  entry["when"] = measured.when;
  entry["load"] = measured.load;
  machines[key] = entry;
  std::error_code failure;
  std::filesystem::create_directories(file.parent_path(), failure);
  if (failure) return fmt::format("cannot create {}: {}", file.parent_path().string(), failure.message());
  try {
    OutputFile output(file);
    output.append(ordered_json{{"version", kMachineLimits.version}, {"machines", machines}}.dump(2) + "\n");
    output.finish();
  } catch (const Error& error) {
    return error.message();
  }
  return "";
}

}  // namespace fovea
