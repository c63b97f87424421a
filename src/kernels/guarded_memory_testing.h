// Arrays whose last element touches an inaccessible page: reading or writing one byte further is a crash.
#pragma once

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <span>

#include "base/error.h"

namespace fovea {

template <typename T>
class GuardedArray {
 public:
  explicit GuardedArray(int64_t count) {
    const int64_t page = sysconf(_SC_PAGESIZE), bytes = count * int64_t{sizeof(T)};
    const int64_t body = (bytes + page - 1) / page * page;
    mapped_ = static_cast<size_t>(body + 2 * page);
    base_ = static_cast<char*>(mmap(nullptr, mapped_, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    FOVEA_CHECK(base_ != MAP_FAILED);
    FOVEA_CHECK(body == 0 || mprotect(base_ + page, static_cast<size_t>(body), PROT_READ | PROT_WRITE) == 0);
    data_ = {reinterpret_cast<T*>(base_ + page + body - bytes), static_cast<size_t>(count)};
  }
  GuardedArray(int64_t count, T fill) : GuardedArray(count) { std::fill(data_.begin(), data_.end(), fill); }
  GuardedArray(const GuardedArray&) = delete;
  GuardedArray& operator=(const GuardedArray&) = delete;
  ~GuardedArray() { munmap(base_, mapped_); }

  T* data() const { return data_.data(); }
  T& operator[](int64_t i) const { return data_[static_cast<size_t>(i)]; }
  int64_t size() const { return static_cast<int64_t>(data_.size()); }

 private:
  char* base_;
  size_t mapped_;
  std::span<T> data_;
};

// A rows x cols matrix with `gap` elements between rows that hold `fill`; nothing follows the last row.
template <typename T>
struct GuardedMatrix {
  int64_t rows, cols, stride;
  GuardedArray<T> elements;

  GuardedMatrix(int64_t row_count, int64_t col_count, int64_t gap, T fill)
      : rows(row_count),
        cols(col_count),
        stride(col_count + gap),
        elements(row_count == 0 ? 0 : (row_count - 1) * stride + col_count, fill) {}
  T* row(int64_t r) const { return elements.data() + r * stride; }
  T* data() const { return elements.data(); }
};

}  // namespace fovea
