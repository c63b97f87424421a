// fovea serve: an OpenAI-compatible server.
#include <chrono>
#include <cstdlib>
#include <memory>

#include "base/error.h"
#include "cli/batch_limits.h"
#include "cli/byte_size.h"
#include "cli/commands.h"
#include "cli/engine_flags.h"
#include "cli/help.h"
#include "cli/interrupt.h"
#include "cli/model_flag.h"
#include "cli/output.h"
#include "cli/ranks.h"
#include "cli/text_file.h"
#include "plan/available_memory.h"
#include "serve/http_server.h"
#include "serve/service.h"

namespace fovea {

namespace {

constexpr int kHttpThreads = 2;
constexpr double kSecondsToSend = 5;  // of answers that are complete when the server ends

struct ServeFlags {
  EngineFlags engine;
  BatchLimitFlags limits;
  std::optional<std::string> ram, body_limit;
  std::string host = "127.0.0.1", served_model_name, api_key_file, media_path, certificate, key, trace,
              port_file;
  std::vector<std::string> allowed_hosts, media_domains, origins;
  uint16_t port = 8000;
  int64_t limit_images = 999, max_queue = 256, max_connections = 1024;
  double shutdown_timeout = 30;
  bool log_requests = false;
};

ApiKeys keys_of(const ServeFlags& flags) {
  if (!flags.api_key_file.empty()) return ApiKeys::parse(read_text_file(flags.api_key_file));
  const char* key = std::getenv("FOVEA_API_KEY");
  return key == nullptr || *key == '\0' ? ApiKeys() : ApiKeys::parse(key);
}

bool is_loopback(const std::string& host) {
  return host == "localhost" || host == "::1" || host.starts_with("127.");
}

ServiceOptions service_options(const ServeFlags& flags) {
  ServiceOptions options;
  options.model = !flags.served_model_name.empty()
                      ? flags.served_model_name
                      : model_files(flags.engine.model).model.lexically_normal().filename().string();
  if (options.model.empty())
    options.model = model_files(flags.engine.model).model.parent_path().filename().string();
  options.version = {{"version", FOVEA_VERSION}};
  options.access.host = flags.host;
  options.access.allowed_hosts = flags.allowed_hosts;
  options.access.cors_origins = flags.origins;
  options.access.keys = keys_of(flags);
  if (!flags.media_path.empty()) {
    options.sources.kind = SourceRules::Kind::folders;
    options.sources.folders = {flags.media_path};
  }
  options.sources.domains = flags.media_domains;
  options.limit_images = flags.limit_images;
  options.pictures = flags.engine.media_limits();
  options.max_requests = flags.limits.limits_given.max_num_seqs + flags.max_queue;
  options.log_requests = flags.log_requests;
  options.log = [](const std::string& line) { print_note("{}\n", line); };
  if (flags.engine.vision_budget)
    options.pixel_bytes = parse_bytes(*flags.engine.vision_budget, "--vision-budget");
  return options;
}

HttpOptions http_options(const ServeFlags& flags) {
  if (flags.certificate.empty() != flags.key.empty()) {
    throw Error(ErrorKind::invalid_argument, "--ssl-cert and --ssl-key go together", "give both, or neither");
  }
  HttpOptions options;
  options.host = flags.host;
  options.port = flags.port;
  options.certificate = flags.certificate;
  options.key = flags.key;
  options.limits.connections = flags.max_connections;
  if (flags.body_limit) {
    options.limits.body_bytes = parse_bytes(*flags.body_limit, "--max-body-size");
    options.limits.all_bodies_bytes =
        std::max(options.limits.all_bodies_bytes, 2 * options.limits.body_bytes);
  }
  return options;
}

Engine open_engine(const ServeFlags& flags, Observer& observer) {
  return open_for_batches(flags.engine, observer, "a server", "fovea run --ram", flags.ram);
}

// At the first of several ranks, or alone.
class Serving {
 public:
  explicit Serving(const ServeFlags& flags)
      : flags_(flags),
        service_(service_options(flags)),
        server_(std::make_unique<HttpServer>(http_options(flags), service_)) {
    service_.count_connections([this] { return server_ ? server_->connections() : 0; });
    if (!flags.port_file.empty()) write_file(flags.port_file, fmt::format("{}\n", server_->port()));
    print_note("fovea: listening at {}, the model is being loaded\n", server_->address());
    if (!is_loopback(flags.host) && keys_of(flags).empty()) {
      print_warning("fovea: warning: whoever reaches {} may use this server; give --api-key-file\n",
                    server_->address());
    }
    server_->start(kHttpThreads);
  }

  void run() {
    const int64_t program_files = resident_memory().file;
    Observer observer;
    observer.cancel = &interrupted();
    const Engine engine = open_engine(flags_, observer);
    answer(engine, program_files);
    engine.release_ranks();
  }

 private:
  void answer(const Engine& engine, int64_t program_files) {
    const std::unique_ptr<StepTrace> trace =
        flags_.trace.empty() ? nullptr : std::make_unique<StepTrace>(flags_.trace);
    EngineLoop loop(engine, limits(engine, program_files), trace.get());
    const End end{*this, loop};
    service_.serve(engine, loop);
    print_note("fovea: ready, serving {} at {}\n", service_.model(), server_->address());
    loop.run([] { return !interrupted(); });
    shut_down(loop);
  }

  // However serving ends, what could still use the loop ends before it does.
  struct End {
    Serving& serving;
    EngineLoop& loop;
    ~End() {
      serving.service_.drain();
      serving.service_.stop();
      loop.drop_all();
      serving.server_.reset();
    }
  };

  BatchLimits limits(const Engine& engine, int64_t program_files) const {
    BatchLimits limits =
        flags_.ram ? flags_.limits.limits_within(engine, parse_bytes(*flags_.ram, "--ram"), program_files)
                   : flags_.limits.limits(engine);
    // The service counts who waits; of several choices each is a request here.
    limits.max_queue = limits.max_num_seqs + flags_.max_queue + kMostChoices;
    return limits;
  }

  void shut_down(EngineLoop& loop) {
    using Clock = std::chrono::steady_clock;
    service_.drain();
    print_note("fovea: shutting down, {} answers are under way\n", service_.requests());
    const auto end = Clock::now() + std::chrono::duration<double>(flags_.shutdown_timeout);
    loop.run([&] { return service_.requests() > 0 && Clock::now() < end; });
    service_.stop();
    loop.fail_all(std::make_exception_ptr(unavailable("shutting_down", "the server is shutting down")));
    server_->stop(kSecondsToSend);
  }

  const ServeFlags& flags_;
  Service service_;
  std::unique_ptr<HttpServer> server_;
};

// The first rank serves, the others compute with it until it releases them.
void run(const ServeFlags& flags) {
  if (flags.ram && flags.engine.tensor_parallel > 1) {
    throw Error(ErrorKind::unsupported, "--tensor-parallel and --ram exclude each other",
                "give --kv-cache-memory, which is each rank's");
  }
  stop_on_interrupt();
  among_ranks([&] {
    if (first_rank()) return Serving(flags).run();
    Observer observer;
    open_engine(flags, observer).serve();
  });
}

void add_network_options(CLI::App& command, ServeFlags& flags) {
  const auto add = [&](const char* name, auto& value, const char* type, const char* words) {
    return command.add_option(name, value, words)->type_name(type)->group("Network");
  };
  add("--host", flags.host, "ADDRESS", "where to listen; 0.0.0.0 is everywhere")->capture_default_str();
  add("--port", flags.port, "N", "0: one that is free, which is printed")->capture_default_str();
  add("--port-file", flags.port_file, "FILE", "the port is written here as soon as it is open");
  add("--ssl-cert,--ssl-certfile", flags.certificate, "FILE", "certificate with its chain (PEM): https");
  add("--ssl-key,--ssl-keyfile", flags.key, "FILE", "its private key (PEM)");
  add("--max-connections", flags.max_connections, "N", "beyond, who has waited longest for nothing goes")
      ->capture_default_str();
  add("--max-body-size", flags.body_limit, "SIZE", "largest body of a request (default: 64Mi)");
}

void add_access_options(CLI::App& command, ServeFlags& flags) {
  const auto add = [&](const char* name, auto& value, const char* type, const char* words) {
    return command.add_option(name, value, words)->type_name(type)->group("Who may ask for what");
  };
  add("--api-key-file", flags.api_key_file, "FILE",
      "a key on each line, one of which clients must send (default: the key in FOVEA_API_KEY; without any, "
      "everybody may ask)");
  add("--allowed-host", flags.allowed_hosts, "NAME",
      "further names by which clients may call this server (Host header); *: any")
      ->allow_extra_args(false);
  add("--cors-origin", flags.origins, "ORIGIN", "pages that may ask, as https://chat.example; *: any")
      ->allow_extra_args(false);
  add("--allowed-media-domain,--allowed-media-domains", flags.media_domains, "HOST",
      "where pictures may be fetched from by https; without it, none are")
      ->allow_extra_args(false);
  add("--media-path,--allowed-local-media-path", flags.media_path, "DIR",
      "requests may name files below it; without it, none");
  add("--limit-images", flags.limit_images, "N", "pictures, videos and frames of a request")
      ->capture_default_str();
}

void add_running_options(CLI::App& command, ServeFlags& flags) {
  const auto grouped = [](CLI::Option* option, const char* type) {
    return option->type_name(type)->group("Running");
  };
  grouped(command.add_option("--served-model-name", flags.served_model_name,
                             "the model's name to clients (default: its folder's)"),
          "NAME");
  grouped(
      command.add_option("--max-queue", flags.max_queue,
                         "answers that may wait beside the --max-num-seqs that run; more are refused (503)"),
      "N")
      ->capture_default_str();
  grouped(command.add_option(
              "--shutdown-timeout", flags.shutdown_timeout,
              "seconds in which answers may end after SIGTERM or Ctrl-C; a second one ends at once"),
          "S")
      ->capture_default_str();
  command
      .add_flag("--log-requests", flags.log_requests, "a line of JSON for every request, without its text")
      ->group("Running");
  grouped(
      command.add_option("--ram", flags.ram,
                         "memory of the whole process, as 12G: keys and values get what weights, a step and "
                         "pictures leave (default: see --kv-cache-memory)"),
      "SIZE");
  grouped(command.add_option("--trace", flags.trace, "every step in Chrome's format for traces"), "FILE");
}

}  // namespace

void add_serve_command(CLI::App& app) {
  const auto flags = std::make_shared<ServeFlags>();
  CLI::App* command = app.add_subcommand("serve", "answer over HTTP, as OpenAI's API does");
  flags->engine.add_engine_to(*command);
  add_network_options(*command, *flags);
  add_access_options(*command, *flags);
  add_running_options(*command, *flags);
  flags->limits.add_to(*command);
  flags->engine.add_tensor_parallel_to(*command);
  flags->engine.add_device_map_to(*command);
  command->footer(
      "Every answer is the one that the request gets alone, bit for bit, whoever else is asking. "
      "docs/guide/server.md has the fields of requests, and what to put in front of a server that strangers "
      "reach.\n\n"
      "Examples:\n"
      "  fovea serve -m Qwen2.5-VL-3B-Instruct\n"
      "  fovea serve -m DIR --port 0 --port-file port --api-key-file keys --max-num-seqs 8");
  command->callback([flags] { run(*flags); });
}

}  // namespace fovea
