// Results by configuration and question, and the file that lets an audit be continued after it was stopped.
#pragma once

#include <filesystem>
#include <functional>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <span>
#include <string>

#include "audit/item_result.h"
#include "audit/result_shape.h"
#include "suite/reader.h"

namespace fovea {

class ResultStore {
 public:
  // `fingerprint` says what the results depend on besides configuration and question: model, suite, options.
  explicit ResultStore(nlohmann::json fingerprint) : fingerprint_(std::move(fingerprint)) {}

  // Null when there is none yet.
  const ItemResult* find(const std::string& configuration, const std::string& item) const;
  void put(const std::string& configuration, const std::string& item, ItemResult result);

  const ItemFacts* facts(const std::string& item) const;
  void put_facts(const std::string& item, const ItemFacts& facts) { facts_[item] = facts; }

  // Questions that cannot be asked: their pictures cannot be read, or the prompt is too long.
  const SuiteProblem* problem(const std::string& item) const;
  void put_problem(const std::string& item, SuiteProblem problem) { problems_[item] = std::move(problem); }
  const std::map<std::string, SuiteProblem>& problems() const { return problems_; }

  // Everything known of these questions, as text, and back. take() throws Error(corrupt) for another text.
  std::string part(std::span<const SuiteItem* const> items) const;
  void take(const std::string& part);

  // Written under a temporary name and moved. Throws Error(exhausted | io).
  void save(const std::filesystem::path& path) const;
  // Takes over what `path` holds. Throws Error(corrupt) for a file that is no such store or holds what cannot
  // be, Error(unsupported) for one of another version, and Error(invalid_argument) naming the difference when
  // it belongs to another audit; the store is then as it was.
  void load(const std::filesystem::path& path, const ResultShape& shape);

 private:
  // Of the questions that `wanted` says.
  nlohmann::json contents(const std::function<bool(const std::string& item)>& wanted) const;
  void add(const nlohmann::json& contents);
  void check(const ResultShape& shape) const;

  nlohmann::json fingerprint_;
  std::map<std::string, std::map<std::string, ItemResult>> results_;
  std::map<std::string, ItemFacts> facts_;
  std::map<std::string, SuiteProblem> problems_;
};

}  // namespace fovea
