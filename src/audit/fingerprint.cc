#include "audit/fingerprint.h"

#include <sys/stat.h>

#include <fstream>
#include <set>

#include "base/fnv1a.h"
#include "base/format_version.h"
#include "media/source.h"

namespace fovea {

using nlohmann::json;

namespace {

namespace fs = std::filesystem;

// Texts with their lengths, so that no two lists of texts hash alike because they join to the same.
class TextHash {
 public:
  void add(std::string_view text) { hash_ = fnv1a(text, fnv1a(fmt::format("{}:", text.size()), hash_)); }
  std::string text() const { return fmt::format("{:016x}", hash_); }

 private:
  uint64_t hash_ = kFnvBasis;
};

// Large files are told apart as make does it.
void add_file(const fs::path& path, TextHash& hash) {
  struct stat status {};
  hash.add(path.string());
  if (::stat(path.c_str(), &status) != 0) return;
  hash.add(fmt::format("{} {} {}", status.st_size, status.st_mtim.tv_sec, status.st_mtim.tv_nsec));
}

std::string weights_of(const Checkpoint& checkpoint) {
  std::set<std::string> files;
  for (const TensorInfo& tensor : checkpoint.tensors()) {
    if (!tensor.file.empty()) files.insert(tensor.file);
  }
  TextHash hash;
  for (const std::string& file : files) add_file(checkpoint.dir() / file, hash);
  return hash.text();
}

// Configs, tokenizer, templates: by what they say.
std::string texts_of(const Checkpoint& checkpoint) {
  std::set<fs::path> paths;
  std::error_code ignored;
  for (fs::directory_iterator entry(checkpoint.dir(), ignored), end; !ignored && entry != end;
       entry.increment(ignored)) {
    const std::string ending = entry->path().extension().string();
    if (ending == ".json" || ending == ".jinja" || ending == ".txt") paths.insert(entry->path());
  }
  TextHash hash;
  for (const fs::path& path : paths) {
    std::ifstream file(path, std::ios::binary);
    hash.add(path.filename().string());
    hash.add(std::string(std::istreambuf_iterator<char>(file), {}));
  }
  return hash.text();
}

std::string questions_of(const Suite& suite) {
  TextHash hash;
  for (const SuiteItem& item : suite.items) {
    hash.add(item.id);
    hash.add(fmt::format("{:x}", item.record_hash));  // with fields that are not known here
    for (const std::string& answer : item.answers) hash.add(answer);
    for (const Message& message : item.messages) {
      for (const ContentPart& part : message.content) hash.add(part.text);
    }
  }
  return hash.text();
}

std::string pictures_of(const Suite& suite) {
  TextHash hash;
  const auto add = [&](const std::string& source) {
    if (source.empty() || is_data_url(source)) return;  // those stand in the record
    add_file(source.starts_with("file://") ? source.substr(7) : source, hash);
  };
  for (const SuiteItem& item : suite.items) {
    for (const Message& message : item.messages) {
      for (const ContentPart& part : message.content) {
        add(part.source);
        for (const std::string& frame : part.frames) add(frame);
      }
    }
  }
  return hash.text();
}

// A file counts by what it says.
std::string template_in_place(const std::string& chat_template) {
  std::ifstream file(chat_template, std::ios::binary);
  if (!file) return chat_template;
  TextHash hash;
  hash.add(std::string(std::istreambuf_iterator<char>(file), {}));
  return "a file with hash " + hash.text();
}

template <typename Value>
json stated(const std::optional<Value>& value) {
  return value ? json(*value) : json(nullptr);
}

const char* name_of(MediaOptions::Resize resize) {
  switch (resize) {
    case MediaOptions::Resize::pil:
      return "pil";
    case MediaOptions::Resize::pil_12:
      return "pil_12";
    case MediaOptions::Resize::torchvision:
      return "torchvision";
  }
  return "";
}

}  // namespace

json fingerprint_of(const Engine& engine, const Suite& suite, const AuditOptions& options) {
  std::error_code ignored;
  const MediaLimits& media = options.media;
  return {{"fovea", program_version()},
          {"kernels", engine.kernel_variant()},
          {"model", fs::weakly_canonical(engine.checkpoint().dir(), ignored).string()},
          {"weights", weights_of(engine.checkpoint())},
          {"configs and tokenizer", texts_of(engine.checkpoint())},
          {"--chat-template", template_in_place(engine.options().chat_template)},
          {"questions", questions_of(suite)},
          {"pictures", pictures_of(suite)},
          {"reference", options.reference ? json(options.reference->key()) : json(nullptr)},
          {"--drift", options.evaluation.drift},
          {"examination of scores", options.evaluation.examine},
          {"--max-new-tokens", options.evaluation.max_new_tokens},
          {"--resize", name_of(media.resize)},
          {"--min-pixels", stated(media.min_pixels)},
          {"--max-pixels", stated(media.max_pixels)},
          {"--max-image-tokens", stated(media.max_image_tokens)},
          {"--max-total-image-tokens", stated(media.max_total_image_tokens)},
          {"--fps", stated(media.fps)},
          {"--video-positions", media.video_positions == VideoPositions::qwen ? "qwen" : "transformers-5"}};
}

}  // namespace fovea
