#include "audit/result_store.h"

#include <fstream>
#include <set>

#include "base/error.h"
#include "base/format_version.h"
#include "base/output_file.h"

namespace fovea {

using nlohmann::json;

namespace {

constexpr auto kFormat = "fovea-audit-state";

template <typename Map>
const typename Map::mapped_type* value_at(const Map& map, const std::string& key) {
  const auto found = map.find(key);
  return found == map.end() ? nullptr : &found->second;
}

json to_json(const SuiteProblem& p) {
  return {{"file", p.file}, {"line", p.line}, {"id", p.id}, {"message", p.message}, {"remedy", p.remedy}};
}

SuiteProblem problem_from(const json& stored) {
  return {stored.at("file").get<std::string>(), stored.at("line").get<int64_t>(),
          stored.at("id").get<std::string>(), stored.at("message").get<std::string>(),
          stored.at("remedy").get<std::string>()};
}

json read_json(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) throw Error(ErrorKind::not_found, "cannot open " + path.string(), "check the path of --resume");
  // What nests deeper than any state would exhaust the stack where it is printed.
  const auto is_shallow = [&](int depth, json::parse_event_t, const json&) {
    constexpr int kDeepest = 64;
    if (depth <= kDeepest) return true;
    throw Error(ErrorKind::corrupt,
                fmt::format("{} is no state of an audit: it nests too deep", path.string()),
                kAuditState.remake);
  };
  try {
    return json::parse(file, is_shallow);
  } catch (const json::exception& error) {
    throw Error(ErrorKind::corrupt,
                fmt::format("{} is no state of an audit: {}", path.string(), error.what()),
                kAuditState.remake);
  }
}

// Either may lack what the other has.
void check_fingerprint(const json& ours, const json& theirs, const std::filesystem::path& path) {
  json names = ours;
  names.update(theirs);
  const auto stated = [](const json& fingerprint, const std::string& name) {
    const auto found = fingerprint.find(name);
    return found == fingerprint.end() ? std::string("not stated") : found->dump().substr(0, 200);
  };
  for (const auto& [name, ignored] : names.items()) {
    const std::string was = stated(theirs, name), is = stated(ours, name);
    if (was == is) continue;
    throw Error(ErrorKind::invalid_argument,
                fmt::format("{} belongs to another audit: {} was {}, is {}", path.string(), name, was, is),
                "use the options it was begun with, or delete the file");
  }
}

}  // namespace

const ItemResult* ResultStore::find(const std::string& configuration, const std::string& item) const {
  const auto* items = value_at(results_, configuration);
  return items == nullptr ? nullptr : value_at(*items, item);
}

void ResultStore::put(const std::string& configuration, const std::string& item, ItemResult result) {
  results_[configuration][item] = std::move(result);
}

const ItemFacts* ResultStore::facts(const std::string& item) const { return value_at(facts_, item); }
const SuiteProblem* ResultStore::problem(const std::string& item) const { return value_at(problems_, item); }

json ResultStore::contents(const std::function<bool(const std::string& item)>& wanted) const {
  json document = json::object();
  json &results = document["results"] = json::object(), &facts = document["facts"] = json::object(),
       &problems = document["problems"] = json::object();
  for (const auto& [configuration, items] : results_) {
    json& list = results[configuration] = json::object();
    for (const auto& [item, result] : items) {
      if (wanted(item)) list[item] = fovea::to_json(result);
    }
  }
  for (const auto& [item, value] : facts_) {
    if (wanted(item)) facts[item] = fovea::to_json(value);
  }
  for (const auto& [item, value] : problems_) {
    if (wanted(item)) problems[item] = to_json(value);
  }
  return document;
}

void ResultStore::add(const json& contents) {
  for (const auto& [configuration, items] : contents.at("results").items()) {
    for (const auto& [item, result] : items.items()) put(configuration, item, item_result_from(result));
  }
  for (const auto& [item, value] : contents.at("facts").items()) put_facts(item, item_facts_from(value));
  for (const auto& [item, value] : contents.at("problems").items()) put_problem(item, problem_from(value));
}

std::string ResultStore::part(std::span<const SuiteItem* const> items) const {
  std::set<std::string> ids;
  for (const SuiteItem* item : items) ids.insert(item->id);
  const auto wanted = [&](const std::string& item) { return ids.count(item) > 0; };
  return contents(wanted).dump(-1, ' ', false, json::error_handler_t::replace);
}

void ResultStore::take(const std::string& part) {
  try {
    add(json::parse(part));
  } catch (const json::exception& error) {
    throw Error(ErrorKind::corrupt,
                fmt::format("another rank sent results that cannot be read: {}", error.what()),
                "start the same version of fovea on every host");
  }
}

void ResultStore::save(const std::filesystem::path& path) const {
  json document = contents([](const std::string&) { return true; });
  document["format"] = kFormat;
  document["version"] = kAuditState.version;
  document["fingerprint"] = fingerprint_;
  OutputFile file(path);
  file.append(document.dump(-1, ' ', false, json::error_handler_t::replace));
  file.finish();
}

void ResultStore::check(const ResultShape& shape) const {
  for (const auto& [configuration, items] : results_) {
    for (const auto& [item, result] : items) {
      check_question(item, shape);
      check_result(result, shape);
    }
  }
  for (const auto& [item, facts] : facts_) {
    check_question(item, shape);
    check_facts(facts, shape);
  }
  for (const auto& [item, problem] : problems_) check_question(item, shape);
}

void ResultStore::load(const std::filesystem::path& path, const ResultShape& shape) {
  const json document = read_json(path);
  ResultStore loaded(fingerprint_);
  const auto refuse = [&](const std::string& why) {
    throw Error(ErrorKind::corrupt, fmt::format("{} is no state of an audit: {}", path.string(), why),
                kAuditState.remake);
  };
  try {
    if (document.at("format") != kFormat) refuse("it has another format");
    check_version(kAuditState, document.value("version", int64_t{1}), path.string());
    check_fingerprint(fingerprint_, document.at("fingerprint"), path);
    loaded.add(document);
  } catch (const json::exception& error) {
    refuse(error.what());
  }
  try {
    loaded.check(shape);
  } catch (const Error& error) {
    refuse(error.message());
  }
  *this = std::move(loaded);
}

}  // namespace fovea
