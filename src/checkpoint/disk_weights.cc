#include <algorithm>
#include <map>

#include "checkpoint/direct_file.h"
#include "checkpoint/weight_source.h"

namespace fovea {

namespace {

// Large enough for the disk to stream, small enough to be abandoned at once. Deeper queues (several threads,
// io_uring) were no faster where this was measured: the kernel cuts one such read into many requests itself.
constexpr int64_t kPiece = int64_t{8} << 20;

// What a checkpoint has in memory alone is copied from there.
class DiskWeights : public WeightSource {
 public:
  explicit DiskWeights(const Checkpoint& checkpoint) {
    for (const TensorInfo& tensor : checkpoint.tensors()) {
      if (!tensor.file.empty() && files_.count(tensor.file) == 0)
        files_.emplace(tensor.file, DirectFile::open(checkpoint.dir() / tensor.file));
    }
  }

  void fetch(const WeightGroup& group, char* to, const std::atomic<bool>& abandon) override {
    for (const GroupPart& part : group.parts) {
      if (part.tensor->file.empty()) {
        std::copy_n(static_cast<const char*>(part.tensor->data) + part.offset, part.bytes, to + part.at);
        continue;
      }
      const DirectFile& file = files_.at(part.tensor->file);
      char* const first_page = to + page_floor(part.at);
      const int64_t begin = page_floor(part.offset), end = part.offset + part.bytes;
      for (int64_t at = begin; at < end; at += kPiece) {
        if (abandon) return;
        file.read(at, std::min(kPiece, end - at), first_page + (at - begin));
      }
    }
  }

  void read(const TensorInfo& tensor, int64_t first, int64_t count, char* to) override {
    if (tensor.file.empty()) {
      std::copy_n(static_cast<const char*>(tensor.data) + first, count, to);
      return;
    }
    const int64_t offset = tensor.offset + first;
    PagedMemory pages;
    pages.resize(page_ceil(offset + count) - page_floor(offset));
    files_.at(tensor.file).read(offset, count, pages.data());
    std::copy_n(pages.data() + offset % kDirectPage, count, to);
  }

 private:
  std::map<std::string, DirectFile> files_;
};

}  // namespace

std::unique_ptr<WeightSource> disk_weights(const Checkpoint& checkpoint) {
  return std::make_unique<DiskWeights>(checkpoint);
}

}  // namespace fovea
