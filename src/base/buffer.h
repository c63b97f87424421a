// Owning, 64-byte aligned storage for activations, and borrowed views of matrices.
#pragma once

#include <cstdint>
#include <cstdlib>
#include <limits>
#include <memory>
#include <span>

#include "base/dtype.h"
#include "base/error.h"

namespace fovea {

// At least so many bytes, to be freed with std::free; large ones on huge pages where the system gives them,
// because weights and activations are streamed and every 4 KiB page would cost a look-up. Null when there is
// no memory.
void* aligned_memory(size_t bytes);

// An aligned array of trivially constructible T; contents are uninitialised until written.
template <typename T>
class Buffer {
 public:
  Buffer() = default;
  explicit Buffer(int64_t size) { resize(size); }

  // Contents are lost. Throws Error(exhausted) when the memory cannot be had.
  void resize(int64_t size) {
    FOVEA_CHECK(size >= 0);
    data_.reset();
    size_ = 0;
    if (size == 0) return;
    if (size > std::numeric_limits<int64_t>::max() / int64_t{sizeof(T)} / 2) out_of_memory(size);
    data_.reset(static_cast<T*>(aligned_memory(static_cast<size_t>(size) * sizeof(T))));
    if (!data_) out_of_memory(size);
    size_ = size;
  }
  // Grows (losing the contents) only when `size` does not fit.
  void reserve(int64_t size) {
    if (size > size_) resize(size);
  }

  T* data() { return data_.get(); }
  const T* data() const { return data_.get(); }
  int64_t size() const { return size_; }
  T& operator[](int64_t i) { return data_.get()[i]; }
  const T& operator[](int64_t i) const { return data_.get()[i]; }
  std::span<T> span() { return {data_.get(), static_cast<size_t>(size_)}; }
  std::span<const T> span() const { return {data_.get(), static_cast<size_t>(size_)}; }

 private:
  [[noreturn]] static void out_of_memory(int64_t size) {
    throw Error(ErrorKind::exhausted,
                fmt::format("cannot allocate {} MiB", static_cast<double>(size) * sizeof(T) / (1 << 20)),
                "use smaller images (--max-pixels), a shorter prompt, or a machine with more memory");
  }
  struct Free {
    void operator()(T* pointer) const { std::free(pointer); }
  };
  std::unique_ptr<T, Free> data_;
  int64_t size_ = 0;
};

// A borrowed row-major matrix of any storage type; `stride` counts elements between rows.
struct MatrixView {
  const void* data = nullptr;
  DType dtype = DType::f32;
  int64_t rows = 0, cols = 0, stride = 0;

  const void* row(int64_t r) const {
    return static_cast<const char*>(data) + static_cast<size_t>(r * stride) * bytes_of(dtype);
  }
};

}  // namespace fovea
