#include "runtime/picture_encodings.h"

#include <utility>

namespace fovea {

void PictureEncodings::encode(PictureOrder& order, PictureOutcome& outcome) {
  const Stopwatch watch;
  try {
    if (order.first == 0) {
      drop(order.number);
      under_way_.try_emplace(order.number, engine_,
                             std::make_shared<const Picture>(std::move(order.picture)));
    }
    PictureEncoding& work = under_way_.at(order.number);
    engine_.parts->weights.begin(ModelPart::vision, work.passes(), engine_.options.weight_limit);
    work.advance_to(order.end);
    if (order.ends()) {
      outcome.guard = work.guard();
      outcome.embeddings = work.embeddings();
      drop(order.number);
    }
  } catch (const Error&) {
    outcome.failure = std::current_exception();
    drop(order.number);
  }
  outcome.seconds = watch.seconds();
}

int64_t PictureEncodings::pixel_bytes() const {
  int64_t bytes = 0;
  for (const auto& [number, work] : under_way_) bytes += work.pixel_bytes();
  return bytes;
}

}  // namespace fovea
