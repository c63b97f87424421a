#include "checkpoint/gguf_model.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <cstring>

#include "base/error.h"
#include "base/printable.h"
#include "checkpoint/gguf_names.h"
#include "checkpoint/safetensors.h"

namespace fovea {
namespace {

namespace fs = std::filesystem;

constexpr const char* kAgain = "download the files again, from one source";
constexpr std::array<const char*, 3> kQkv{"q", "k", "v"};
constexpr const char* kFrames[] = {"v.patch_embd.weight", "v.patch_embd.weight.1"};

[[noreturn]] void stranger(const GgufFile& file, const GgufTensor& tensor) {
  throw Error(ErrorKind::unsupported,
              fmt::format("{} holds tensor {}, which is no part of Qwen2.5-VL", file.path().string(),
                          printable(tensor.name)),
              "use a GGUF of Qwen2.5-VL as llama.cpp's converter writes it; adapters must be merged first");
}

bool is_part(const std::string& name) {
  if (name == kFrames[0] || name == kFrames[1]) return true;
  return name.starts_with("v.blk.") && std::any_of(kQkv.begin(), kQkv.end(), [&](const std::string& which) {
           return name.ends_with(".attn_" + which + ".weight") || name.ends_with(".attn_" + which + ".bias");
         });
}

// Old converters call the two the other way round: then down's rows are as long as the block is wide.
bool swaps_up_and_down(const GgufFile& mmproj, const VisionConfig& config) {
  const GgufTensor* down = mmproj.find("v.blk.0.ffn_down.weight");
  return config.intermediate_size != config.hidden_size && down != nullptr &&
         down->shape == std::vector{config.intermediate_size, config.hidden_size};
}
std::string other_way_round(std::string name) {
  const size_t up = name.find("ffn_up"), down = name.find("ffn_down");
  if (up != std::string::npos) return name.replace(up, 6, "ffn_down");
  if (down != std::string::npos) return name.replace(down, 8, "ffn_up");
  return name;
}

void widen(const GgufTensor& tensor, float* out) {
  const int64_t count = element_count(tensor.shape, tensor.name);
  if (tensor.blocks) return widen_blocks(*tensor.blocks, tensor.data, count, out);
  const auto* wide = static_cast<const float*>(tensor.data);
  const auto* narrow = static_cast<const uint16_t*>(tensor.data);
  for (int64_t i = 0; i < count; ++i) {
    out[i] = tensor.dtype == DType::f32    ? wide[i]
             : tensor.dtype == DType::bf16 ? f32_from_bf16(narrow[i])
                                           : f32_from_f16(narrow[i]);
  }
}

bool same_type(const GgufTensor& a, const GgufTensor& b) {
  return a.dtype == b.dtype && a.blocks == b.blocks;
}

}  // namespace

GgufModel::GgufModel(const ModelFiles& files) {
  for (const fs::path& part : split_files(files.model)) files_.push_back(GgufFile::open(part));
  check_split();
  files_.push_back(GgufFile::open(files.mmproj));
  index_text();
  const auto embedding = text_.find("token_embd.weight");
  if (embedding == text_.end()) {
    throw Error(ErrorKind::not_found,
                fmt::format("{} lacks tensor token_embd.weight", text().path().string()), kAgain);
  }
  texts_ = gguf_texts(text(), mmproj(), text_.count("output.weight") == 0,
                      embedding->second.tensor->shape.front(), computing_type());
}

// What a split file says of itself.
void GgufModel::check_split() const {
  const auto count = static_cast<int64_t>(files_.size());
  for (int64_t i = 0; i < count; ++i) {
    const GgufFile& file = files_[static_cast<size_t>(i)];
    const int64_t number = file.integer("split.no").value_or(0),
                  parts = file.integer("split.count").value_or(1);
    if (number == i && std::max<int64_t>(parts, 1) == count) continue;
    throw Error(ErrorKind::corrupt,
                fmt::format("{} says that it is part {} of {}, its name that it is {} of {}",
                            file.path().string(), number + 1, parts, i + 1, count),
                "split files keep their names, NAME-00001-of-0000N.gguf; give the first");
  }
}

void GgufModel::index_text() {
  for (size_t i = 0; i + 1 < files_.size(); ++i) {
    for (const GgufTensor& tensor : files_[i].tensors()) {
      if (text_.emplace(tensor.name, Place{&tensor, &files_[i]}).second) continue;
      throw Error(ErrorKind::corrupt,
                  fmt::format("tensor {} occurs twice in the parts of {}", printable(tensor.name),
                              text().path().string()),
                  kAgain);
    }
  }
  const std::optional<int64_t> stated = text().integer("split.tensors.count");
  if (!stated || *stated == std::ssize(text_)) return;
  throw Error(ErrorKind::corrupt,
              fmt::format("{} is split into files with {} tensors, but they hold {}", text().path().string(),
                          *stated, text_.size()),
              kAgain);
}

// What most of the matrices are stored in; the model's own bf16 for those in blocks.
DType GgufModel::computing_type() const {
  int64_t wide = 0, half = 0, others = 0;
  for (const auto& [name, place] : text_) {
    const GgufTensor& tensor = *place.tensor;
    if (tensor.shape.size() < 2) continue;
    const bool plain = !tensor.blocks;
    (plain && tensor.dtype == DType::f32   ? wide
     : plain && tensor.dtype == DType::f16 ? half
                                           : others) += tensor.bytes;
  }
  if (others >= std::max(wide, half)) return DType::bf16;
  return wide >= half ? DType::f32 : DType::f16;
}

std::map<std::string, std::string> GgufModel::other_texts() const {
  std::map<std::string, std::string> texts = gguf_tokenizer_texts(text());
  texts.emplace("preprocessor_config.json", texts_.preprocessor);
  texts.emplace("generation_config.json", texts_.generation);
  return texts;
}

TensorInfo GgufModel::info(const Place& place, const std::string& name) const {
  const GgufTensor& tensor = *place.tensor;
  TensorInfo info;
  info.name = name;
  info.file_name = tensor.name;
  info.file = fs::absolute(place.file->path()).string();
  info.shape = tensor.shape;
  info.offset = tensor.offset;
  if (!tensor.blocks) {
    info.dtype = tensor.dtype;
    info.data = tensor.data;
    return info;
  }
  if (tensor.shape.size() != 2) {
    throw Error(
        ErrorKind::unsupported,
        fmt::format("{}: tensor {} has {} dimensions and is stored as {}", place.file->path().string(),
                    printable(tensor.name), tensor.shape.size(), tensor.type_name()),
        "only matrices may be in blocks; convert the model again");
  }
  info.format = WeightFormat::blocks;
  info.blocks = *tensor.blocks;
  info.parts.values = tensor.data;
  info.parts.bytes = tensor.bytes;
  return info;
}

// A copy of some tensors in `type`, or in the type of all of them.
TensorInfo GgufModel::made(const std::vector<Place>& parts, const std::string& name, DType type,
                           std::vector<int64_t> shape) {
  TensorInfo info;
  info.name = name;
  info.file_name = parts.front().tensor->name;
  info.shape = std::move(shape);
  info.dtype = type;
  copies_.emplace_back(element_count(info.shape, name) * static_cast<int64_t>(bytes_of(type)));
  info.data = copies_.back().data();
  return info;
}

GgufModel::Place GgufModel::vision(const std::string& name) const {
  const GgufTensor* tensor = mmproj().find(name);
  if (tensor != nullptr) return {tensor, &mmproj()};
  throw Error(ErrorKind::not_found, fmt::format("{} lacks tensor {}", mmproj().path().string(), name),
              kAgain);
}

// Rows of q, then of k, then of v; of vectors their elements. The converter writes them behind one another.
TensorInfo GgufModel::joined(const std::string& block, const std::string& kind, const std::string& name,
                             int64_t width) {
  std::vector<Place> parts;
  const std::vector<int64_t> one = kind == "bias" ? std::vector{width} : std::vector{width, width};
  bool alike = true, together = true;
  for (const char* which : kQkv) {
    parts.push_back(vision(fmt::format("{}attn_{}.{}", block, which, kind)));
    const GgufTensor &first = *parts.front().tensor, &tensor = *parts.back().tensor;
    if (tensor.shape != one) {
      throw Error(
          ErrorKind::corrupt,
          fmt::format("{}: tensor {} has shape [{}], embedding_length implies [{}]", mmproj().path().string(),
                      tensor.name, fmt::join(tensor.shape, ", "), fmt::join(one, ", ")),
          kAgain);
    }
    alike = alike && same_type(first, tensor);
    together = together && alike &&
               tensor.offset == first.offset + static_cast<int64_t>(parts.size() - 1) * first.bytes;
  }
  std::vector<int64_t> shape = one;
  shape.front() *= 3;
  if (together) {
    TensorInfo all = info(parts.front(), name);
    all.shape = shape;
    all.parts.bytes *= 3;
    return all;
  }
  const bool plain = alike && !parts.front().tensor->blocks;
  TensorInfo all = made(parts, name, plain ? parts.front().tensor->dtype : DType::f32, shape);
  char* to = copies_.back().data();
  for (const Place& part : parts) {
    if (plain) {
      std::memcpy(to, part.tensor->data, static_cast<size_t>(part.tensor->bytes));
    } else {
      widen(*part.tensor, reinterpret_cast<float*>(to));
    }
    to += all.bytes() / 3;
  }
  return all;
}

// Of each output and colour the first frame's patch, then the second's.
TensorInfo GgufModel::patch_embedding(const VisionConfig& config) {
  const int64_t side = config.patch_size, patch = side * side,
                planes = config.hidden_size * config.in_channels;
  const std::vector<int64_t> one{config.hidden_size, config.in_channels, side, side};
  std::vector<Place> frames;
  for (const char* name : kFrames) {
    frames.push_back(vision(name));
    const GgufTensor& frame = *frames.back().tensor;
    if (frame.shape == one && !frame.blocks) continue;
    throw Error(ErrorKind::corrupt,
                fmt::format("{}: tensor {} is {} of shape [{}], the keys imply plain numbers of shape [{}]",
                            mmproj().path().string(), frame.name, frame.type_name(),
                            fmt::join(frame.shape, ", "), fmt::join(one, ", ")),
                kAgain);
  }
  const bool alike = same_type(*frames[0].tensor, *frames[1].tensor);
  const DType type = alike ? frames[0].tensor->dtype : DType::f32;
  TensorInfo both = made(frames, "model.visual.patch_embed.proj.weight", type,
                         {config.hidden_size, config.in_channels, 2, side, side});
  const auto bytes = static_cast<int64_t>(bytes_of(type)) * patch;
  for (int64_t f = 0; f < 2; ++f) {
    const GgufTensor& frame = *frames[static_cast<size_t>(f)].tensor;
    std::vector<float> wide(alike ? 0 : static_cast<size_t>(planes * patch));
    if (!alike) widen(frame, wide.data());
    const char* from =
        alike ? static_cast<const char*>(frame.data) : reinterpret_cast<const char*>(wide.data());
    for (int64_t plane = 0; plane < planes; ++plane)
      std::memcpy(copies_.back().data() + (2 * plane + f) * bytes, from + plane * bytes,
                  static_cast<size_t>(bytes));
  }
  return both;
}

std::vector<TensorInfo> GgufModel::tensors(const ModelConfig& config) {
  std::vector<TensorInfo> all;
  for (const auto& [gguf_name, place] : text_) {
    const std::optional<std::string> name = canonical_text_name(gguf_name);
    if (!name) stranger(*place.file, *place.tensor);
    all.push_back(info(place, *name));
  }
  const bool swap = swaps_up_and_down(mmproj(), config.vision);
  for (const GgufTensor& tensor : mmproj().tensors()) {
    if (is_part(tensor.name)) continue;
    const auto name = canonical_vision_name(swap ? other_way_round(tensor.name) : tensor.name);
    if (!name) stranger(mmproj(), tensor);
    all.push_back(info({&tensor, &mmproj()}, *name));
  }
  all.push_back(patch_embedding(config.vision));
  for (int64_t i = 0; i < config.vision.depth; ++i) {
    const std::string block = fmt::format("v.blk.{}.", i),
                      name = fmt::format("model.visual.blocks.{}.attn.qkv.", i);
    if (mmproj().find(block + "attn_qkv.weight") != nullptr) continue;
    for (const char* kind : {"weight", "bias"})
      all.push_back(joined(block, kind, name + kind, config.vision.hidden_size));
  }
  return all;
}

}  // namespace fovea
