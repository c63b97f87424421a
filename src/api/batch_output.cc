#include "api/batch_output.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>

#include "api/chat_response.h"
#include "api/error_object.h"
#include "api/request_fields.h"
#include "base/output_file.h"

namespace fovea {
namespace {

using nlohmann::json;
using nlohmann::ordered_json;

constexpr int64_t kMaxOutputLineBytes = int64_t{256} << 20;
constexpr const char* kOtherName = "give another name for the output, or move this file away";

ordered_json output_line(const BatchLine& line, int status, ordered_json body) {
  ordered_json response = {{"status_code", status}, {"request_id", line.id}};
  response["body"] = std::move(body);
  ordered_json output = {{"id", line.id}};
  output["custom_id"] = line.custom_id.empty() ? ordered_json() : ordered_json(line.custom_id);
  output["response"] = std::move(response);
  output["error"] = nullptr;
  return output;
}

[[noreturn]] void refuse_file(const std::filesystem::path& path, int64_t line, const std::string& words) {
  throw Error(ErrorKind::invalid_argument, fmt::format("{}:{} {}", path.string(), line, words), kOtherName);
}

// The parsed line of an earlier run. Throws when it is none.
json parsed_output(const std::string& text, const std::filesystem::path& path, int64_t number) {
  constexpr const char* kNoOutput = "is no line of a batch's output";
  json line;
  try {
    line = parse_request_object(text, "the line", kMaxOutputLineBytes);
  } catch (const Error&) {
    refuse_file(path, number, kNoOutput);
  }
  const auto stands = [&](const char* name) { return line.contains(name); };
  if (!stands("id") || !stands("custom_id") || !stands("response") || !stands("error")) {
    refuse_file(path, number, kNoOutput);
  }
  return line;
}

bool is_answer(const json& line) {
  const json& response = line.at("response");
  return response.is_object() && response.value("status_code", json()) == 200;
}

bool is_stream(const std::filesystem::path& path) {
  std::error_code unknown;
  const auto kind = std::filesystem::status(path, unknown).type();
  return kind == std::filesystem::file_type::character || kind == std::filesystem::file_type::fifo;
}

std::filesystem::path without_link(const std::filesystem::path& path) {
  std::error_code failure;
  if (!std::filesystem::is_symlink(path, failure)) return path;
  const auto target = std::filesystem::canonical(path, failure);
  return failure ? path : target;
}

}  // namespace

ordered_json batch_answer(const BatchLine& line, ordered_json body) {
  return output_line(line, 200, std::move(body));
}

ordered_json batch_failure(const BatchLine& line, const Error& error) {
  ordered_json body = error_object(error);
  ordered_json& message = body["error"]["message"];
  message = fmt::format("line {}: {}", line.number, message.get_ref<const std::string&>());
  return output_line(line, http_status(error), std::move(body));
}

BatchOutput::BatchOutput(std::filesystem::path path, const std::map<std::string, std::string>& ids)
    : path_(without_link(path)) {
  if (is_stream(path_)) {
    file_ = ::open(path_.c_str(), O_WRONLY | O_CLOEXEC);
    if (file_ < 0) fail_to_write("open", path_, errno);
    bytes_ = -1;
    return;
  }
  open();
  try {
    resume(ids);
  } catch (...) {
    if (file_ >= 0) ::close(file_);
    throw;
  }
}

BatchOutput::~BatchOutput() {
  if (file_ >= 0) ::close(file_);
}

void BatchOutput::open() {
  file_ = open_locked(path_, O_RDWR | O_APPEND, path_);
  struct stat state {};
  if (::fstat(file_, &state) != 0) fail_to_write("open", path_, errno);
  bytes_ = state.st_size;
}

void BatchOutput::resume(const std::map<std::string, std::string>& ids) {
  std::set<int64_t> kept;
  bool all = true;
  LineReader lines(path_, kMaxOutputLineBytes, kOtherName);
  std::string text;
  for (auto result = lines.next(text); result != LineReader::Result::end; result = lines.next(text)) {
    if (!lines.ended()) {
      all = false;
      break;
    }
    if (result == LineReader::Result::too_long) {
      refuse_file(path_, lines.number(), fmt::format("has more than {} bytes", kMaxOutputLineBytes));
    }
    if (!is_blank(text) && is_kept(text, lines.number(), ids)) {
      kept.insert(lines.number());
    } else {
      all = false;
    }
  }
  if (!all) rewrite(kept);
}

bool BatchOutput::is_kept(const std::string& text, int64_t number,
                          const std::map<std::string, std::string>& ids) {
  const json line = parsed_output(text, path_, number);
  if (!is_answer(line)) return false;
  const json& custom_id = line.at("custom_id");
  const auto asked = custom_id.is_string() ? ids.find(custom_id.get<std::string>()) : ids.end();
  if (asked == ids.end()) {
    refuse_file(path_, number, "answers " + shown_value(custom_id) + ", which the input does not ask");
  }
  if (line.at("id") != asked->second) {
    refuse_file(path_, number,
                "answers " + shown_value(custom_id) +
                    " as another line, model or precision asked it: the input or the options have changed");
  }
  return completed_.insert(asked->first).second;
}

void BatchOutput::rewrite(const std::set<int64_t>& kept) {
  OutputFile file(path_);
  LineReader lines(path_, kMaxOutputLineBytes, kOtherName);
  std::string text;
  while (lines.next(text) != LineReader::Result::end) {
    if (kept.contains(lines.number())) file.append(text + '\n');
  }
  // The lock belongs to the file that is replaced; whoever gets that of the new one first goes on.
  file.finish();
  ::close(file_);
  file_ = -1;
  open();
}

void BatchOutput::append(const ordered_json& line) {
  const std::string text = json_line(line) + '\n';
  size_t written = 0;
  while (written < text.size()) {
    const ssize_t count = ::write(file_, text.data() + written, text.size() - written);
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) {
      const int reason = count < 0 ? errno : EIO;
      // Or the next line would begin behind half of this one.
      if (bytes_ >= 0 && ::ftruncate(file_, bytes_) != 0) fail_to_write("take back a line of", path_, errno);
      fail_to_write("write", path_, reason);
    }
    written += static_cast<size_t>(count);
  }
  if (bytes_ >= 0) bytes_ += static_cast<int64_t>(text.size());
}

}  // namespace fovea
