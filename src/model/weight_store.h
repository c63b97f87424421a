// The weights of a checkpoint as matrices of a wanted type. In memory: borrowed from the checkpoint's mapping
// where the stored type serves, otherwise converted once and shared by everyone who asks again, until the
// last of them is gone. Streamed: within a budget, a group at a time; whoever computes takes a group before
// its matrices are used and gives it back after.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <tuple>
#include <utility>

#include "base/buffer.h"
#include "checkpoint/checkpoint.h"
#include "model/layer_observer.h"
#include "model/quantized_matrix.h"
#include "model/weight_stream.h"

namespace fovea {

// Every value rounded to a type of 16 bits: [rows, cols].
Buffer<uint16_t> converted(const Context& context, const MatrixView& source, DType type);
// The same of a tensor however it is stored, [rows, cols] of any type that weights have.
Buffer<char> rounded_copy(const Context& context, const TensorInfo& tensor, DType type);

// What weights may occupy while the vision tower and while the decoder runs, in bytes.
struct WeightLimit {
  int64_t vision = 0, text = 0;
};

// A matrix of the store, or some of its rows.
struct HeldMatrix {
  const MatrixView* view;              // lives as long as the store; its data only as `memory` does
  std::shared_ptr<const void> memory;  // of the conversion; null where there is none
};

class WeightStore;

// While it lives, the matrices of one group are in memory.
class WeightLease {
 public:
  WeightLease() = default;
  WeightLease(WeightLease&& other) noexcept : store_(std::exchange(other.store_, nullptr)) {}
  WeightLease& operator=(WeightLease&&) = delete;
  ~WeightLease();

 private:
  friend class WeightStore;
  explicit WeightLease(const WeightStore& store) : store_(&store) {}
  const WeightStore* store_ = nullptr;  // null: everything stays in memory
};

class WeightStore {
 public:
  // `checkpoint` is borrowed. The context converts what the files store otherwise than it is wanted.
  explicit WeightStore(const Checkpoint& checkpoint, const Context& context = process_context())
      : checkpoint_(checkpoint), context_(context), groups_(checkpoint) {}

  const Checkpoint& checkpoint() const { return checkpoint_; }
  const WeightGroups& groups() const { return groups_; }
  const Context& context() const { return context_; }

  // The tensor, or some of its rows, with every value rounded to `type`. The stored form serves when it has
  // that type, and for fp32 in any form, because kernels widen exactly. Of a streamed store the view's data
  // is null unless a lease of its group and type lives. May be called from several threads.
  HeldMatrix matrix(const std::string& tensor, DType type) const;
  HeldMatrix rows(const std::string& tensor, DType type, int64_t first, int64_t count) const;
  // The same, quantized; not none. Borrowed when it is stored so, else made while nobody has it, in parallel.
  // Throws Error(unsupported) when streamed, Error(invalid_argument) when it is stored quantized otherwise.
  std::shared_ptr<const QuantizedMatrix> quantized(const std::string& tensor, DType type,
                                                   Quantization quantization) const;
  // A 1-D tensor, each value rounded to `type`.
  std::vector<float> vector(const std::string& tensor, DType type) const;

  // From now on weights come from `source` and are in memory only as begin() allows. Not while anyone
  // computes. Throws Error(unsupported) when some are quantized, here or in the files.
  void stream(std::unique_ptr<WeightSource> source) const;
  bool streams() const { return stream_ != nullptr; }

  // Before a tower runs, `passes` times or more: what its weights may occupy. Does nothing in memory.
  void begin(ModelPart part, int64_t passes, const std::optional<WeightLimit>& limit) const;
  // Makes the matrices of a group of that tower available in `type`. Costs nothing in memory.
  [[nodiscard]] WeightLease use(int64_t group, DType type, const std::function<void()>& while_waiting) const;
  // Row `row` of a matrix that is streamed, rounded to `type` and widened.
  void read_row(const std::string& tensor, DType type, int64_t row, float* out) const;

  // All zero in memory.
  StreamState stream_state() const { return stream_ ? stream_->state() : StreamState{}; }

 private:
  friend class WeightLease;
  struct Part {  // of a matrix that was asked for
    MatrixView view;
    int64_t group;  // that it is a part of, or -1
    int64_t at;     // in the group's memory
    DType stored;
    bool converted = false;  // the view is one of `memory`
    std::weak_ptr<const void> memory;
  };
  // Emptied, whoever has them, when the store begins to stream.
  template <typename Key, typename T>
  using Shared = std::map<Key, std::weak_ptr<Buffer<T>>>;
  using PartKey = std::tuple<std::string, DType, int64_t, int64_t>;

  MatrixView in_memory(const std::string& tensor, DType type, std::shared_ptr<const void>& memory) const;
  void find_group(const std::string& tensor, int64_t first, Part& part) const;
  void release() const;

  const Checkpoint& checkpoint_;
  Context context_;
  WeightGroups groups_;
  mutable std::mutex mutex_;
  mutable std::map<PartKey, Part> parts_;
  mutable Shared<std::pair<std::string, DType>, uint16_t> converted_;
  mutable Shared<std::pair<std::string, DType>, char> dequantized_;
  mutable std::map<std::tuple<std::string, DType, Quantization>, std::weak_ptr<const QuantizedMatrix>>
      quantized_;
  mutable std::mutex use_mutex_;                             // held by the one lease
  mutable std::vector<Part*> used_;                          // by it
  mutable std::vector<Buffer<uint16_t>> converted_for_use_;  // for it
  mutable std::unique_ptr<WeightStream> stream_;
};

}  // namespace fovea
