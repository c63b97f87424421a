#include "cli/files_read.h"

#include "base/error.h"
#include "cli/model_flag.h"
#include "media/source.h"

namespace fovea {

namespace {

void add_source(const std::string& source, InputFiles& inputs) {
  if (source.empty() || is_data_url(source)) return;
  try {
    inputs.add(local_path(source));
  } catch (const Error&) {  // whoever reads it says so
  }
}

}  // namespace

void add_files_of(const ModelFiles& files, InputFiles& inputs) {
  inputs.add(files.model);
  if (!files.mmproj.empty()) inputs.add(files.mmproj);
}

void add_files_of(const EngineFlags& flags, InputFiles& inputs) {
  if (!flags.model.empty()) add_files_of(model_files(flags.model), inputs);
  for (const std::string& name : {flags.precision, flags.messages, flags.device_map}) {
    if (!name.empty()) inputs.add(name);
  }
}

void add_files_of(const std::vector<Message>& conversation, InputFiles& inputs) {
  for (const Message& message : conversation) {
    for (const ContentPart& part : message.content) {
      add_source(part.source, inputs);
      for (const std::string& frame : part.frames) add_source(frame, inputs);
    }
  }
}

}  // namespace fovea
