#include <fovea/engine.h>

#include "library/errors.h"
#include "library/shared_engine.h"

namespace fovea::v0 {

const char* version() { return FOVEA_VERSION; }

class Engine::State : public SharedEngine {
  using SharedEngine::SharedEngine;
};

Engine::Engine(const std::filesystem::path& model, const EngineOptions& options)
    : state_(with_public_errors([&] { return std::make_unique<State>(model, options); })) {}
Engine::~Engine() = default;
Engine::Engine(Engine&&) noexcept = default;
Engine& Engine::operator=(Engine&&) noexcept = default;

EngineInfo Engine::info() const {
  return with_public_errors([&] { return state_->info(); });
}
EngineMetrics Engine::metrics() const { return state_->metrics(); }

RequestId Engine::submit(const Request& request, Events events) {
  return with_public_errors([&] { return state_->submit(request, events); });
}
void Engine::cancel(RequestId id) { state_->cancel(id); }
bool Engine::step() {
  return with_public_errors([&] { return state_->step(); });
}
void Engine::run() {
  while (step()) {
  }
}
Answer Engine::generate(const Request& request, const Events& events) {
  return with_public_errors([&] { return state_->generate(request, events); });
}

}  // namespace fovea::v0
