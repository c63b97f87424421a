// All the ways in which an automaton reads a text, followed byte by byte.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "grammar/automaton.h"

namespace fovea {

// How deep frames lie upon each other at most; deeper is not begun. An object in a list costs about five.
inline constexpr int32_t kDeepestStack = 512;
// So many readings are followed at once. Of more, which only schemas have whose alternatives begin alike, the
// first ones in the order of the schema are: then some texts that fit cannot be written, never one that does
// not.
inline constexpr size_t kMostReadings = 4096;

struct Frame {
  static constexpr int32_t kBottom = -1;
  int32_t node, count;
  int32_t parent;  // a frame's index, or kBottom
  int32_t depth;
};

// The readings behind a text: frames that wait for a byte, and whether the text may end here.
struct Readings {
  std::vector<int32_t> waiting;  // indices of frames
  bool complete = false;
};

// Frames lie in one vector that only grows and is cut back: whoever goes back to an earlier text cuts it to
// what it was then. For one thread.
class FrameStack {
 public:
  // Frames deeper than `deepest`, counted from where this stack begins, are not made.
  explicit FrameStack(const Automaton& automaton, int32_t deepest)
      : automaton_(automaton), deepest_(deepest) {}

  const Frame& frame(int32_t index) const { return frames_[static_cast<size_t>(index)]; }
  size_t size() const { return frames_.size(); }
  void cut(size_t size) { frames_.resize(size); }
  void swap(FrameStack& other) {
    frames_.swap(other.frames_);
    entered_.swap(other.entered_);
  }
  // Pushes a frame as it is.
  int32_t push(int32_t node, int32_t count, int32_t parent);
  // What can be read from a frame on, added to the readings.
  void enter(int32_t index, Readings& to);
  // What is left when a byte was read. `to` must not be `from`.
  void read(const Readings& from, uint8_t byte, Readings& to);

  // The largest number of frames above the bottom that any frame made so far asked for, with what it needs.
  int32_t deepest_need() const { return deepest_need_; }

 private:
  int32_t arrived(int32_t node, int32_t count) const;
  bool is_open(EdgeGuard guard, const Frame& frame) const;
  bool equal(int32_t a, int32_t b) const;
  bool fits(int32_t node, int32_t depth);
  void add(int32_t index, Readings& to);

  const Automaton& automaton_;
  int32_t deepest_, deepest_need_ = 0;
  std::vector<Frame> frames_;
  std::vector<int32_t> entered_;  // of the step under way
};

}  // namespace fovea
