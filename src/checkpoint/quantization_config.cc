#include "checkpoint/quantization_config.h"

#include "base/error.h"
#include "base/format_version.h"
#include "checkpoint/json_fields.h"

namespace fovea {
namespace {

using Method = QuantizationConfig::Method;

constexpr int64_t kMaxGroup = 1 << 24;

[[noreturn]] void refuse(const JsonFields& fields, const char* field, const std::string& what,
                         const char* remedy) {
  throw Error(ErrorKind::unsupported, fmt::format("{} is {}", fields.name_of(field), what), remedy);
}

// -1, as both formats write it, means the whole row.
int64_t read_group_size(JsonFields& fields) {
  const int64_t size = fields.integer("group_size", 128, -1, kMaxGroup);
  if (size == 0) refuse(fields, "group_size", "0", "get the file again from its source");
  return size < 0 ? 0 : size;
}

QuantizationConfig read_awq(JsonFields& fields) {
  QuantizationConfig config{Method::awq, fields.integer("bits", 4, 1, 64), 0, false};
  if (config.bits != 4) {
    refuse(fields, "bits", std::to_string(config.bits), "AWQ checkpoints of 4 bits are supported");
  }
  config.group_size = read_group_size(fields);
  const std::string version = fields.string("version", "gemm");
  if (version != "gemm" && version != "GEMM") {
    refuse(fields, "version", '"' + version.substr(0, 40) + '"',
           "the gemm layout is supported; save the checkpoint in it");
  }
  if (!fields.boolean("zero_point", true)) {
    refuse(fields, "zero_point", "false", "use the GPTQ or the plain form of this checkpoint");
  }
  return config;
}

QuantizationConfig read_gptq(JsonFields& fields) {
  QuantizationConfig config{Method::gptq, fields.integer("bits", 4, 1, 64), 0, true};
  if (config.bits != 4 && config.bits != 8) {
    refuse(fields, "bits", std::to_string(config.bits), "GPTQ checkpoints of 4 and 8 bits are supported");
  }
  config.group_size = read_group_size(fields);
  const std::string format = fields.string("checkpoint_format", "gptq");
  if (format != "gptq" && format != "gptq_v2") {
    refuse(fields, "checkpoint_format", '"' + format.substr(0, 40) + '"',
           "gptq and gptq_v2 are supported; save the checkpoint in one of them");
  }
  config.zeros_minus_one = format == "gptq";
  return config;
}

QuantizationConfig read_own(JsonFields& fields) {
  check_version(kQuantizedFolder, fields.integer("version", 0, 0, 1 << 20), fields.name_of("version"));
  return {Method::fovea, 0, 0, false};
}

}  // namespace

// Both published formats carry notes of their makers that vary from release to release and say nothing about
// the layout; what counts is checked against the tensors.
QuantizationConfig read_quantization(const nlohmann::json& object, const std::string& where) {
  JsonFields fields(object, where);
  const std::string method = fields.string("quant_method", "");
  QuantizationConfig config;
  if (method == "fovea") {
    config = read_own(fields);
  } else if (method == "awq") {
    config = read_awq(fields);
  } else if (method == "gptq") {
    config = read_gptq(fields);
  } else {
    config.method = Method::other;
  }
  config.name = method.substr(0, 40);
  return config;
}

}  // namespace fovea
