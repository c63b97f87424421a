#include "zero/zero_weights.h"

#include <algorithm>
#include <map>
#include <vector>

#include "base/buffer.h"
#include "base/error.h"

namespace fovea {

namespace {

constexpr int64_t kPiece = int64_t{8} << 20;  // of a message, and between two looks at `abandon`

// Rows of a tensor, which all ranks store together: rank r its bytes [cut(r), cut(r + 1)).
struct Extent {
  const TensorInfo* tensor;
  int64_t first, bytes;           // in the tensor
  std::vector<int64_t> share_at;  // where each rank's begins among all that it stores

  int64_t cut(int64_t rank) const { return zero_cut(bytes, rank, std::ssize(share_at)); }
};

class ZeroWeights final : public WeightSource {
 public:
  ZeroWeights(const Checkpoint& checkpoint, Communicator& ranks, const ZeroOptions& options)
      : ranks_(ranks), disk_(disk_weights(checkpoint)), groups_(checkpoint) {
    require_same_files(checkpoint);
    shares_.resize(static_cast<size_t>(ranks.size()));
    for (const WeightGroup& group : groups_.all()) {
      for (const GroupPart& part : group.parts) {
        extents_of_[group.name].push_back(extents_.size());
        add(*part.tensor, part.offset - part.tensor->offset, part.bytes);
      }
    }
    const TensorInfo& embedding = checkpoint.tensor("model.language_model.embed_tokens.weight");
    if (!checkpoint.config().text.tie_word_embeddings) add(embedding, 0, embedding.bytes());
    if (options.in_memory) load(options.progress);
    shared_ = ranks.share([this](int64_t at, std::span<std::byte> to) { read_own(at, to); });
  }

  void fetch(const WeightGroup& group, char* to, const std::atomic<bool>& abandon) override {
    const std::vector<size_t>& extents = extents_of_.at(group.name);
    for (size_t i = 0; i < extents.size(); ++i) {
      const Extent& extent = extents_[extents[i]];
      gather(extent, 0, extent.bytes, to + group.parts[i].at, &abandon);
    }
  }

  void read(const TensorInfo& tensor, int64_t first, int64_t count, char* to) override {
    for (const Extent& extent : extents_) {
      if (extent.tensor->name != tensor.name) continue;
      const int64_t begin = std::max(first, extent.first),
                    end = std::min(first + count, extent.first + extent.bytes);
      if (begin < end)
        gather(extent, begin - extent.first, end - extent.first, to + (begin - first), nullptr);
    }
  }

  int64_t resident_bytes() const override { return own_.size(); }

 private:
  void add(const TensorInfo& tensor, int64_t first, int64_t bytes) {
    Extent& extent = extents_.emplace_back(Extent{&tensor, first, bytes, shares_});
    for (int64_t rank = 0; rank < std::ssize(shares_); ++rank) {
      shares_[static_cast<size_t>(rank)] += extent.cut(rank + 1) - extent.cut(rank);
    }
  }

  void require_same_files(const Checkpoint& checkpoint) const {
    const std::optional<int> other = ranks_.first_that_differs(checkpoint.layout());
    if (!other) return;
    throw Error(
        ErrorKind::invalid_argument,
        fmt::format("ranks 0 and {} have different checkpoints in {}", *other, checkpoint.dir().string()),
        "give every host the same folder, shared or copied");
  }

  // Bytes [begin, end) of an extent, from this rank first and then from the one after it, so that not all ask
  // the same one at once.
  void gather(const Extent& extent, int64_t begin, int64_t end, char* to, const std::atomic<bool>* abandon) {
    const int size = ranks_.size();
    for (int i = 0; i < size; ++i) {
      const int rank = (ranks_.rank() + i) % size;
      const int64_t from = std::max(begin, extent.cut(rank)), until = std::min(end, extent.cut(rank + 1));
      for (int64_t at = from; at < until; at += kPiece) {
        if (abandon != nullptr && *abandon) return;
        const auto count = static_cast<size_t>(std::min(kPiece, until - at));
        const int64_t place = extent.share_at[static_cast<size_t>(rank)] + (at - extent.cut(rank));
        shared_->fetch(rank, place, std::as_writable_bytes(std::span(to + (at - begin), count)));
      }
    }
  }

  // What this rank stores, for itself and, on another thread, for others. A request lies within one extent.
  void read_own(int64_t at, std::span<std::byte> to) const {
    auto* bytes = reinterpret_cast<char*>(to.data());
    if (own_.size() > 0) {
      std::copy_n(own_.data() + at, to.size(), bytes);
      return;
    }
    const auto rank = static_cast<size_t>(ranks_.rank());
    const auto after =
        std::upper_bound(extents_.begin(), extents_.end(), at,
                         [&](int64_t place, const Extent& e) { return place < e.share_at[rank]; });
    const Extent& extent = *std::prev(after);
    disk_->read(*extent.tensor, extent.first + extent.cut(ranks_.rank()) + at - extent.share_at[rank],
                static_cast<int64_t>(to.size()), bytes);
  }

  void load(const ProgressFn& progress) {
    const int rank = ranks_.rank();
    Buffer<char> own(shares_[static_cast<size_t>(rank)]);
    for (const Extent& extent : extents_) {
      const int64_t begin = extent.cut(rank), end = extent.cut(rank + 1),
                    to = extent.share_at[static_cast<size_t>(rank)];
      for (int64_t at = begin; at < end; at += kPiece) {
        disk_->read(*extent.tensor, extent.first + at, std::min(kPiece, end - at),
                    own.data() + to + (at - begin));
      }
      if (progress) progress("load", to + end - begin, own.size());
    }
    own_ = std::move(own);
  }

  Communicator& ranks_;
  std::unique_ptr<WeightSource> disk_;
  WeightGroups groups_;
  std::vector<Extent> extents_;
  std::map<std::string, std::vector<size_t>> extents_of_;  // of a group's parts
  std::vector<int64_t> shares_;                            // bytes that each rank stores
  Buffer<char> own_;                                       // empty when they stay on disk
  std::unique_ptr<SharedBytes> shared_;                    // destroyed first: it serves the others from own_
};

}  // namespace

std::unique_ptr<WeightSource> zero_weights(const Checkpoint& checkpoint, Communicator& ranks,
                                           const ZeroOptions& options) {
  return std::make_unique<ZeroWeights>(checkpoint, ranks, options);
}

}  // namespace fovea
