#include "cli/plan_request.h"

#include <regex>

#include "base/error.h"
#include "base/freed_memory.h"
#include "cli/help.h"
#include "cli/option_values.h"
#include "cli/warnings.h"
#include "media/geometry.h"
#include "media/token_budget.h"
#include "plan/available_memory.h"

namespace fovea {

namespace {

// "20@1280x960", or "2@640x480x32" for videos of 32 sampled frames.
void add_pictures(const std::string& text, const EngineFlags& flags, const Checkpoint& checkpoint,
                  PlanRequest& request) {
  static const std::regex form(R"((?:(\d{1,5})@)?(\d{1,6})x(\d{1,6})(?:x(\d{1,4}))?)");
  std::smatch match;
  if (!std::regex_match(text, match, form) || match[1] == "0") {
    throw Error(ErrorKind::invalid_argument, fmt::format("--images {} is not understood", in_quotes(text)),
                "write 20@1280x960 (count@widthxheight), or 2@640x480x32 for videos of 32 sampled frames");
  }
  Picture picture;
  picture.source = text;
  picture.original_width = std::stoll(match[2]);
  picture.original_height = std::stoll(match[3]);
  picture.is_video = match[4].matched;
  picture.frames = picture.is_video ? std::stoll(match[4]) : 1;
  const MediaOptions options = media_options(checkpoint.preprocessor(), flags.media_limits(), {});
  for (int64_t i = match[1].matched ? std::stoll(match[1]) : 1; i > 0; --i) {
    request.pictures.push_back({with_geometry(picture, options), options});
  }
}

void apply_token_limits(const EngineFlags& flags, PlanRequest& request) {
  std::vector<Picture> measured;
  std::vector<MediaOptions> options;
  for (PlanPicture& picture : request.pictures) {
    if (flags.max_image_tokens) limit_tokens(picture.measured, picture.options, *flags.max_image_tokens);
    measured.push_back(geometry_of(picture.measured));
    options.push_back(picture.options);
  }
  if (flags.max_total_image_tokens) share_tokens(measured, options, *flags.max_total_image_tokens);
  for (size_t i = 0; i < options.size(); ++i) {
    request.pictures[i] = {with_geometry(measured[i], options[i]), options[i]};
  }
}

void add_all_pictures(const EngineFlags& flags, const PlannedUse& use, const Checkpoint& checkpoint,
                      PlanRequest& request) {
  for (const std::string& text : use.pictures) add_pictures(text, flags, checkpoint, request);
  apply_token_limits(flags, request);
}

int64_t tokens_of(const PlanRequest& request, const Checkpoint& checkpoint) {
  int64_t tokens = 0;
  for (const PlanPicture& picture : request.pictures)
    tokens += picture.measured.tokens(checkpoint.config().vision.spatial_merge_size);
  return tokens;
}

}  // namespace

PlannedModel::PlannedModel(const EngineFlags& flags, const std::string& config)
    : source(flags.model, config),
      checkpoint(Checkpoint::open(source.files())),
      text(model_text(checkpoint, flags.chat_template)) {
  print_warnings(checkpoint.warnings());
  return_freed_memory();
}

int64_t picture_tokens(const EngineFlags& flags, const PlannedUse& use, const Checkpoint& checkpoint) {
  PlanRequest request;
  add_all_pictures(flags, use, checkpoint, request);
  return tokens_of(request, checkpoint);
}

PlanSetup planned_request(const EngineFlags& flags, const PlannedUse& use, const Checkpoint& checkpoint) {
  PlanSetup setup = plan_setup(flags.engine_options(), flags.prefill_chunk, checkpoint);
  PlanRequest& request = setup.request;
  add_all_pictures(flags, use, checkpoint, request);
  const int64_t images = tokens_of(request, checkpoint);
  const int64_t context = use.context.value_or(images + use.max_new_tokens + 512);
  request.answer_tokens = use.max_new_tokens;
  request.text_tokens = context - images - use.max_new_tokens;
  if (request.text_tokens < 1) {
    throw Error(ErrorKind::invalid_argument,
                fmt::format("a context of {} tokens has no room for {} image tokens and {} of an answer",
                            context, images, use.max_new_tokens),
                "raise --context, or lower --max-total-image-tokens");
  }
  if (context > checkpoint.config().text.max_position_embeddings) {
    throw Error(ErrorKind::exhausted,
                fmt::format("the model's context is {} tokens, not {}",
                            checkpoint.config().text.max_position_embeddings, context),
                "lower --context, or --max-total-image-tokens");
  }
  const ResidentMemory resident = resident_memory();
  request.process_bytes = resident.file + resident.anonymous;
  return setup;
}

void PlannedUse::add_to(CLI::App& command) {
  command
      .add_option("--context,--ctx-size,--max-model-len", context, "tokens in all: images, text and answer")
      ->type_name("T")
      ->group(kCommonOptions);
  command
      .add_option(
          "--images", pictures,
          "images: count@widthxheight, as 20@1280x960; videos of F sampled frames: count@WxHxF; repeatable")
      ->type_name("K@WxH")
      ->allow_extra_args(false)
      ->group(kCommonOptions);
  command
      .add_option("-n,--max-new-tokens,--max-tokens,--n-predict", max_new_tokens,
                  "tokens of the context that are the answer")
      ->type_name("N")
      ->capture_default_str()
      ->group(kCommonOptions);
}

}  // namespace fovea
