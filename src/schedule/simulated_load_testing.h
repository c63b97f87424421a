// Requests for tests of the scheduler: many begin alike, show the same pictures, are asked several times at
// once or go on where an earlier one ended.
#pragma once

#include <algorithm>
#include <cstdint>
#include <utility>
#include <vector>

#include "base/splitmix64.h"
#include "schedule/simulated_model_testing.h"

namespace fovea::testing {

class Dice : public SplitMix64 {
 public:
  using SplitMix64::SplitMix64;
  int64_t below(int64_t n) { return static_cast<int64_t>(bits() % static_cast<uint64_t>(n)); }
  int64_t between(int64_t least, int64_t most) { return least + below(most - least + 1); }
  bool one_in(int64_t n) { return below(n) == 0; }
};

struct SimulatedRequest {
  Request request;             // as the scheduler is told
  SimulatedSequence sequence;  // as it is
};

class SimulatedLoad {
 public:
  // One answer in `long_in` may be of several blocks. `tells_pictures`: whether a picture's number is in its
  // tokens, as the scheduler asks for.
  SimulatedLoad(uint64_t seed, int64_t long_in, bool tells_pictures)
      : dice_(seed), long_in_(long_in), tells_pictures_(tells_pictures) {}

  SimulatedRequest draw() {
    if (documents_.size() < 6 || dice_.one_in(15)) add_document();
    SimulatedRequest drawn;
    if (!recent_.empty() && dice_.one_in(4)) {
      drawn = recent_[static_cast<size_t>(dice_.below(static_cast<int64_t>(recent_.size())))];
      if (dice_.one_in(2)) add_text(drawn, dice_.between(1, 40));
      if (drawn.sequence.tokens.size() > 400) drawn = from_document();
    } else {
      drawn = from_document();
    }
    drawn.request.id = ++ids_;
    drawn.request.max_new_tokens = dice_.one_in(long_in_) ? dice_.between(60, 250) : dice_.between(1, 14);
    drawn.sequence.seed = dice_.one_in(2) ? 0 : dice_.bits();
    if (recent_.size() == 4) recent_.erase(recent_.begin());
    recent_.push_back(drawn);
    return drawn;
  }

  // Prompts may begin with this one and its answer: a second turn.
  void remember(SimulatedRequest answered) {
    const auto& tokens = answered.sequence.tokens;
    if (tokens.size() > 300) return;
    auto& told = answered.request.tokens;
    told.insert(told.end(), tokens.begin() + static_cast<std::ptrdiff_t>(told.size()), tokens.end());
    documents_[document()] = std::move(answered);
  }

 private:
  size_t document() { return static_cast<size_t>(dice_.below(static_cast<int64_t>(documents_.size()))); }

  void add_document() {
    SimulatedRequest made;
    made.request.root = made.sequence.root = static_cast<uint64_t>(dice_.below(2));
    add_text(made, dice_.between(1, 90));
    for (int64_t pictures = dice_.one_in(2) ? dice_.between(1, 2) : 0; pictures-- > 0;) {
      add_picture(made);
      add_text(made, dice_.between(1, 60));
    }
    if (documents_.size() < 6) {
      documents_.push_back(std::move(made));
    } else {
      documents_[document()] = std::move(made);
    }
  }
  SimulatedRequest from_document() {
    SimulatedRequest made = documents_[document()];
    if (dice_.one_in(10)) change(made);
    add_text(made, dice_.one_in(3) ? dice_.between(1, 100) : dice_.between(1, 10));
    return made;
  }

  // The same with another root, or with other pictures of the same sizes.
  void change(SimulatedRequest& of) {
    SimulatedRequest changed;
    const bool pictures = dice_.one_in(2) && !of.request.pictures.empty();
    changed.request.root = changed.sequence.root = pictures ? of.request.root : 1 - of.request.root;
    changed.request.pictures = of.request.pictures;
    if (pictures) {
      for (PromptPicture& picture : changed.request.pictures) picture.number += kSizes;
    }
    for (size_t i = 0; i < of.request.tokens.size(); ++i) {
      add(changed, of.sequence.tokens[i], of.request.tokens[i]);
    }
    of = std::move(changed);
    for (const PromptPicture& picture : of.request.pictures) show(of, picture);
  }

  // Few words, so that beginnings are equal by chance, too.
  void add_text(SimulatedRequest& to, int64_t tokens) {
    for (; tokens > 0; --tokens) {
      const auto token = static_cast<uint64_t>(dice_.between(1, 3));
      add(to, token, token);
    }
  }
  void add_picture(SimulatedRequest& to) {
    PromptPicture picture;
    picture.number = static_cast<uint64_t>(dice_.between(1, 5)) + 1000 * (pictures_++ / 40);
    picture.units = 10 + static_cast<int64_t>(picture.number % kSizes) * 9;
    picture.tokens = picture.units / 2;
    picture.first_token = static_cast<int64_t>(to.sequence.tokens.size());
    to.request.pictures.push_back(picture);
    for (int64_t i = 0; i < picture.tokens; ++i) add(to, 0, 0);
    show(to, picture);
  }
  void show(SimulatedRequest& of, const PromptPicture& picture) const {
    SimulatedSequence shown;
    shown.root = of.sequence.root;
    for (int64_t i = 0; i < static_cast<int64_t>(of.sequence.tokens.size()); ++i) {
      const int64_t offset = i - picture.first_token;
      const bool inside = offset >= 0 && offset < picture.tokens;
      const uint64_t truth = splitmix64(picture.number * 4096 + static_cast<uint64_t>(offset));
      shown.append(inside ? truth : of.sequence.tokens[static_cast<size_t>(i)]);
      if (inside) of.request.tokens[static_cast<size_t>(i)] = tells_pictures_ ? truth : kPad;
    }
    shown.seed = of.sequence.seed;
    of.sequence = std::move(shown);
  }
  static void add(SimulatedRequest& to, uint64_t truth, uint64_t told) {
    to.sequence.append(truth);
    to.request.tokens.push_back(told);
  }

  static constexpr uint64_t kSizes = 7;  // of pictures
  static constexpr uint64_t kPad = 151655;

  Dice dice_;
  int64_t long_in_;
  bool tells_pictures_;
  uint64_t ids_ = 0, pictures_ = 0;
  std::vector<SimulatedRequest> documents_;  // what prompts begin with
  std::vector<SimulatedRequest> recent_;
};

}  // namespace fovea::testing
