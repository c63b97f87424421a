// Attention of torch's CPU tensors, read where they lie. Queries are widened to f32 and outputs narrowed, as
// the model does around its own calls; keys and values of 16 bits are never copied.
#include <nanobind/ndarray.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <cstring>

#include "attention/problem.h"
#include "base/error.h"
#include "binding/bindings.h"
#include "binding/threads.h"
#include "kernels/context.h"

namespace fovea::python {

namespace nb = nanobind;

namespace {

using Array = nb::ndarray<nb::device::cpu, nb::ndim<4>>;

// Of a row of the batch: queries [first_query, end_query) see keys [first_key, end_key), or with `causal`
// those up to their own, which end where the keys do.
struct Range {
  int64_t first_key = 0, end_key = 0, first_query = 0, end_query = 0;
};

DType dtype_of(const Array& array, const char* name) {
  const nb::dlpack::dtype type = array.dtype();
  const auto is = [&](nb::dlpack::dtype_code code, int bits) {
    return type.code == static_cast<uint8_t>(code) && type.bits == bits && type.lanes == 1;
  };
  if (is(nb::dlpack::dtype_code::Float, 32)) return DType::f32;
  if (is(nb::dlpack::dtype_code::Float, 16)) return DType::f16;
  if (is(nb::dlpack::dtype_code::Bfloat, 16)) return DType::bf16;
  throw Error(ErrorKind::unsupported, fmt::format("{} is neither float32, bfloat16 nor float16", name),
              "cast it, or load the model in one of these");
}

[[noreturn]] void refuse(const std::string& what) {
  throw Error(ErrorKind::invalid_argument, what,
              "query [batch, heads, queries, head_dim], key and value [batch, kv_heads, keys, head_dim]");
}

int64_t size(const Array& array, size_t axis) { return static_cast<int64_t>(array.shape(axis)); }

const char* at(const Array& array, DType type, int64_t batch, int64_t head, int64_t token) {
  const int64_t offset = batch * array.stride(0) + head * array.stride(1) + token * array.stride(2);
  return static_cast<const char*>(array.data()) + offset * static_cast<int64_t>(bytes_of(type));
}

float widened(const char* data, DType type, int64_t i) {
  if (type == DType::f32) {
    float value;
    std::memcpy(&value, data + 4 * i, 4);
    return value;
  }
  uint16_t bits;
  std::memcpy(&bits, data + 2 * i, 2);
  return type == DType::bf16 ? f32_from_bf16(bits) : f32_from_f16(bits);
}

void narrow(const float* from, DType type, int64_t count, char* to) {
  if (type == DType::f32) {
    std::memcpy(to, from, static_cast<size_t>(count) * sizeof(float));
    return;
  }
  for (int64_t i = 0; i < count; ++i) {
    const uint16_t bits = type == DType::bf16 ? bf16_from_f32(from[i]) : f16_from_f32(from[i]);
    std::memcpy(to + 2 * i, &bits, 2);
  }
}

struct Call {
  Context context;
  Array query, key, value, out;  // out [batch, queries, heads, head_dim], contiguous
  DType type = DType::f32;
  float scale = 0;
  bool causal = false;
  AttentionKind kind = AttentionKind::flash_attention_2;
  AttentionPrecision precision;
  int64_t batch = 0, heads = 0, kv_heads = 0, queries = 0, keys = 0, dim = 0;

  void check() {
    type = dtype_of(query, "query");
    batch = size(query, 0), heads = size(query, 1), queries = size(query, 2), dim = size(query, 3);
    kv_heads = size(key, 1), keys = size(key, 2);
    if (dtype_of(key, "key") != type || dtype_of(value, "value") != type || dtype_of(out, "out") != type) {
      refuse("query, key and value have different dtypes");
    }
    if (size(key, 0) != batch || size(value, 0) != batch || size(value, 1) != kv_heads ||
        size(value, 2) != keys) {
      refuse("query, key and value have different batches, heads or numbers of keys");
    }
    if (dim < 1 || size(key, 3) != dim || size(value, 3) != dim)
      refuse("query, key and value have different head_dims");
    if (kv_heads < 1 || heads < 1 || heads % kv_heads != 0)
      refuse(fmt::format("{} query heads cannot share {} key heads", heads, kv_heads));
    for (const Array* array : {&query, &key, &value}) {
      if (array->stride(3) != 1) refuse("the values of a head do not lie side by side");
    }
    for (const Array* array : {&key, &value}) {
      if (keys > 1 && array->stride(2) < dim) refuse("keys or values of neighbouring tokens overlap");
    }
    if (size(out, 0) != batch || size(out, 1) != queries || size(out, 2) != heads || size(out, 3) != dim)
      refuse("out has another shape");
    int64_t stride = 1;
    for (size_t axis = 4; axis-- > 0; stride *= size(out, axis)) {
      if (size(out, axis) > 1 && out.stride(axis) != stride) refuse("out is not contiguous");
    }
    if (!(scale > 0)) refuse("scale is not positive");
    if (batch < 1 || keys < 1 || queries < 1) refuse("there are no queries or no keys");
  }

  // Queries of the heads that share a kv head, side by side: [count, heads / kv_heads, dim].
  void gather(int64_t b, int64_t group, const Range& range, float* to) const {
    const int64_t share = heads / kv_heads;
    for (int64_t q = range.first_query; q < range.end_query; ++q) {
      for (int64_t h = group * share; h < (group + 1) * share; ++h) {
        const char* from = at(query, type, b, h, q);
        for (int64_t i = 0; i < dim; ++i) *to++ = widened(from, type, i);
      }
    }
  }

  void scatter(int64_t b, int64_t group, const Range& range, const float* from) {
    const int64_t share = heads / kv_heads, bytes = static_cast<int64_t>(bytes_of(type));
    char* base = static_cast<char*>(out.data());
    for (int64_t q = range.first_query; q < range.end_query; ++q) {
      narrow(from, type, share * dim, base + ((b * queries + q) * heads + group * share) * dim * bytes);
      from += share * dim;
    }
  }

  void blank(int64_t b, int64_t first, int64_t end) {
    const int64_t row = heads * dim * static_cast<int64_t>(bytes_of(type));
    std::memset(static_cast<char*>(out.data()) + (b * queries + first) * row, 0,
                static_cast<size_t>((end - first) * row));
  }

  AttentionProblem problem(int64_t b, int64_t group, const Range& range, const float* q, float* to) const {
    const int64_t share = heads / kv_heads;
    AttentionProblem p{.context = context};
    p.q = {q, DType::f32, range.end_query - range.first_query, share, dim, share * dim, type};
    const auto view = [&](const Array& array) {
      HeadsView v;
      v.data = at(array, type, b, group, range.first_key);
      v.dtype = v.values = type;
      v.tokens = range.end_key - range.first_key;
      v.heads = 1;
      v.head_dim = dim;
      v.stride = v.tokens > 1 ? array.stride(2) : dim;
      return v;
    };
    p.k = view(key);
    p.v = view(value);
    p.out = to;
    p.scale = scale;
    p.causal = causal;
    p.precision = precision;
    return p;
  }

  // What is computed together: the heads of one row of the batch that share a kv head.
  struct Group {
    int64_t row, kv_head;
    int64_t begin;  // of its queries and results among all, in values
  };

  void run(std::span<const Range> ranges) {
    const int64_t share = heads / kv_heads;
    std::vector<Group> groups;
    int64_t values = 0;
    for (int64_t b = 0; b < batch; ++b) {
      const Range& range = ranges[static_cast<size_t>(b)];
      blank(b, 0, range.first_query);
      blank(b, range.end_query, queries);
      if (range.end_query <= range.first_query) continue;
      for (int64_t g = 0; g < kv_heads; ++g) {
        groups.push_back({b, g, values});
        values += (range.end_query - range.first_query) * share * dim;
      }
    }
    Buffer<float> rows(values), results(values);
    const auto count = static_cast<int64_t>(groups.size());
    const auto range_of = [&](const Group& group) { return ranges[static_cast<size_t>(group.row)]; };
    context.parallel_for(count, [&](int64_t i) {
      const Group& group = groups[static_cast<size_t>(i)];
      gather(group.row, group.kv_head, range_of(group), rows.data() + group.begin);
    });
    std::vector<AttentionProblem> problems;
    problems.reserve(groups.size());
    for (const Group& group : groups) {
      problems.push_back(problem(group.row, group.kv_head, range_of(group), rows.data() + group.begin,
                                 results.data() + group.begin));
    }
    attend(kind, std::span<const AttentionProblem>(problems));
    context.parallel_for(count, [&](int64_t i) {
      const Group& group = groups[static_cast<size_t>(i)];
      scatter(group.row, group.kv_head, range_of(group), results.data() + group.begin);
    });
  }
};

SharedPool& pool() {
  static auto* const pool = new SharedPool;  // as its threads, as long as the process
  return *pool;
}

// Four numbers for each row of the batch; none: all queries see all keys, or with `causal` those up to their
// own.
std::vector<Range> ranges_of(const Call& call, const std::vector<int64_t>& numbers) {
  if (!numbers.empty() && static_cast<int64_t>(numbers.size()) != 4 * call.batch) {
    refuse("there are not four numbers for each row of the batch");
  }
  std::vector<Range> all;
  for (int64_t b = 0; b < call.batch; ++b) {
    Range range{0, call.keys, 0, call.queries};
    if (!numbers.empty()) {
      const int64_t* of_row = numbers.data() + 4 * b;
      range = {of_row[0], of_row[1], of_row[2], of_row[3]};
    }
    const bool fits = range.first_key >= 0 && range.end_key <= call.keys && range.first_query >= 0 &&
                      range.first_query <= range.end_query && range.end_query <= call.queries;
    const int64_t seen = range.end_key - range.first_key, asked = range.end_query - range.first_query;
    if (!fits || (asked > 0 && (seen < 1 || (call.causal && seen < asked)))) {
      refuse("the keys and queries of a row do not fit each other");
    }
    all.push_back(range);
  }
  return all;
}

void run_attention(Array query, Array key, Array value, Array out, double scale, bool causal,
                   const std::string& kind, const std::vector<int64_t>& ranges, int threads) {
  nb::gil_scoped_release released;
  const SharedPool::Use use = pool().use(threads);
  Call call{{&use.pool(), &kernels()}, query, key, value, out};
  call.scale = static_cast<float>(scale);
  call.causal = causal;
  call.kind = parse_attention(kind);
  call.check();
  call.precision = AttentionPrecision::of(call.kind, call.type);
  call.precision.mask = MaskAdd::skip;
  call.run(ranges_of(call, ranges));
}

}  // namespace

void add_attention(nb::module_& module) {
  module.def("attend", &run_attention, nb::arg("query"), nb::arg("key"), nb::arg("value"), nb::arg("out"),
             nb::arg("scale"), nb::arg("causal"), nb::arg("kind"), nb::arg("ranges"), nb::arg("threads"));
  module.def("attention_threads", [] { return pool().threads(); });
}

}  // namespace fovea::python
