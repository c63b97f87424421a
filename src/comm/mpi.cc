// Communicator over MPI. All waiting is done by looking and sleeping in turns: MPI's own waits take a whole
// core, which the ranks of one machine need for work.
#include <mpi.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstring>
#include <exception>
#include <mutex>
#include <thread>
#include <vector>

#include "base/error.h"
#include "comm/world.h"

namespace fovea {

namespace {

constexpr int64_t kLargestMessage = int64_t{1} << 30;  // MPI counts bytes with an int

[[noreturn]] void refuse(int code, const std::string& what) {
  char text[MPI_MAX_ERROR_STRING] = "";
  int length = 0;
  MPI_Error_string(code, text, &length);
  throw Error(ErrorKind::io, fmt::format("{}: {}", what, text),
              "check that all hosts run and reach each other; mpirun --mca btl tcp,self --mca "
              "btl_tcp_if_include INTERFACE chooses the network");
}

void check(int code, const char* what) {
  if (code != MPI_SUCCESS) refuse(code, what);
}

// Looks again and again, at first without a pause, then with longer ones: a message of the same machine takes
// microseconds, a rank that waits for its turn in the pipeline seconds.
template <typename Done>
void wait_until(Done done, std::chrono::microseconds longest = std::chrono::microseconds(200)) {
  using namespace std::chrono;
  const auto start = steady_clock::now();
  while (!done()) {
    const auto waited = steady_clock::now() - start;
    if (waited < microseconds(20)) continue;
    std::this_thread::sleep_for(
        std::clamp(duration_cast<microseconds>(waited / 16), microseconds(10), longest));
  }
}

class MpiTransfer final : public Transfer {
 public:
  MpiTransfer(std::string what, bool receives) : what_(std::move(what)), receives_(receives) {}
  // A transfer that nobody waits for any more: because of an error, with which the process ends. Until then
  // nothing may be received into memory that its owner gives back.
  ~MpiTransfer() override {
    for (MPI_Request& request : requests_) {
      if (request == MPI_REQUEST_NULL) continue;
      if (receives_) MPI_Cancel(&request);
      MPI_Request_free(&request);
    }
  }
  MPI_Request& add() { return requests_.emplace_back(MPI_REQUEST_NULL); }
  const std::string& what() const { return what_; }
  bool done() override {
    int all = 0;
    const int code =
        MPI_Testall(static_cast<int>(requests_.size()), requests_.data(), &all, MPI_STATUSES_IGNORE);
    if (code != MPI_SUCCESS) refuse(code, what_);
    return all != 0;
  }
  void wait() override {
    wait_until([this] { return done(); });
  }

 private:
  std::string what_;
  bool receives_;
  std::vector<MPI_Request> requests_;
};

// Calls body(bytes, count) for pieces that MPI can count; once for nothing, so that it is a message too.
template <typename Byte, typename Body>
void for_pieces(std::span<Byte> bytes, Body body) {
  size_t at = 0;
  do {
    const size_t count = std::min(bytes.size() - at, static_cast<size_t>(kLargestMessage));
    body(bytes.data() + at, static_cast<int>(count));
    at += count;
  } while (at < bytes.size());
}

std::unique_ptr<MpiTransfer> start_send_on(MPI_Comm comm, int to, int tag, std::span<const std::byte> bytes) {
  auto transfer =
      std::make_unique<MpiTransfer>(fmt::format("cannot send {} bytes to rank {}", bytes.size(), to), false);
  for_pieces(bytes, [&](const std::byte* piece, int count) {
    const int code = MPI_Isend(piece, count, MPI_BYTE, to, tag, comm, &transfer->add());
    if (code != MPI_SUCCESS) refuse(code, transfer->what());
  });
  return transfer;
}

std::unique_ptr<MpiTransfer> start_receive_on(MPI_Comm comm, int from, int tag, std::span<std::byte> bytes) {
  auto transfer = std::make_unique<MpiTransfer>(
      fmt::format("cannot receive {} bytes from rank {}", bytes.size(), from), true);
  for_pieces(bytes, [&](std::byte* piece, int count) {
    const int code = MPI_Irecv(piece, count, MPI_BYTE, from, tag, comm, &transfer->add());
    if (code != MPI_SUCCESS) refuse(code, transfer->what());
  });
  return transfer;
}

// Answers other ranks' requests for bytes from a thread of its own, over a communicator of its own.
class MpiSharedBytes final : public SharedBytes {
 public:
  MpiSharedBytes(MPI_Comm comm, Read read) : read_(std::move(read)) {
    check(MPI_Comm_dup(comm, &comm_), "cannot make a communicator");
    MPI_Comm_rank(comm_, &rank_);
    server_ = std::thread([this] { serve(); });
  }
  ~MpiSharedBytes() override {
    MPI_Request all = MPI_REQUEST_NULL;
    MPI_Ibarrier(comm_, &all);
    wait_until(
        [&] {
          int done = 0;
          MPI_Test(&all, &done, MPI_STATUS_IGNORE);
          return done != 0;
        },
        std::chrono::milliseconds(5));
    stop_ = true;
    server_.join();
    MPI_Comm_free(&comm_);
  }

  void fetch(int rank, int64_t offset, std::span<std::byte> to) override {
    if (rank == rank_) return read_(offset, to);
    const int tag = kFirstAnswer + static_cast<int>(next_answer_++ % kAnswers);
    const Wanted wanted{offset, static_cast<int64_t>(to.size()), tag};
    const auto answer = start_receive_on(comm_, rank, tag, to);
    start_send_on(comm_, rank, kRequest, std::as_bytes(std::span(&wanted, 1)))->wait();
    answer->wait();
  }

 private:
  struct Wanted {
    int64_t offset, size;
    int64_t answer;  // the tag
  };
  static constexpr int kRequest = 1, kFirstAnswer = 2, kAnswers = 1024;  // more than are ever under way

  // An error here (a file that cannot be read) is one of this rank: it names itself and ends all.
  void serve() {
    try {
      while (!stop_) {
        MPI_Message message{};
        MPI_Status status{};
        wait_until(
            [&] {
              int there = 0;
              check(MPI_Improbe(MPI_ANY_SOURCE, kRequest, comm_, &there, &message, &status),
                    "cannot look for requests");
              return there != 0 || stop_;
            },
            std::chrono::milliseconds(1));
        if (!stop_) answer(message, status.MPI_SOURCE);
      }
    } catch (const std::exception& error) {
      fail_world(error.what(), 1);
    }
  }

  void answer(MPI_Message& message, int to) {
    Wanted wanted{};
    check(MPI_Mrecv(&wanted, sizeof wanted, MPI_BYTE, &message, MPI_STATUS_IGNORE), "cannot read a request");
    buffer_.resize(static_cast<size_t>(wanted.size));
    read_(wanted.offset, buffer_);
    start_send_on(comm_, to, static_cast<int>(wanted.answer), buffer_)->wait();
  }

  MPI_Comm comm_ = MPI_COMM_NULL;
  int rank_ = 0;
  Read read_;
  std::vector<std::byte> buffer_;
  std::atomic<uint32_t> next_answer_{0};
  std::atomic<bool> stop_{false};
  std::thread server_;
};

class MpiWorld final : public Communicator {
 public:
  MpiWorld() {
    int provided = 0;
    check(MPI_Init_thread(nullptr, nullptr, MPI_THREAD_MULTIPLE, &provided), "cannot initialise MPI");
    MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN);
    MPI_Comm_rank(MPI_COMM_WORLD, &rank_);
    MPI_Comm_size(MPI_COMM_WORLD, &size_);
    if (provided >= MPI_THREAD_MULTIPLE) return;
    throw Error(ErrorKind::unsupported, "this MPI library does not serve several threads of a process",
                "use an MPI built with MPI_THREAD_MULTIPLE, as Debian's and Ubuntu's are");
  }
  ~MpiWorld() override { MPI_Finalize(); }
  int rank() const override { return rank_; }
  int size() const override { return size_; }

  std::unique_ptr<Transfer> start_send(int to, int tag, std::span<const std::byte> bytes) override {
    return start_send_on(MPI_COMM_WORLD, to, tag, bytes);
  }
  std::unique_ptr<Transfer> start_receive(int from, int tag, std::span<std::byte> bytes) override {
    return start_receive_on(MPI_COMM_WORLD, from, tag, bytes);
  }
  void barrier() override {
    collective("cannot wait for all ranks", [](MPI_Request* r) { return MPI_Ibarrier(MPI_COMM_WORLD, r); });
  }
  void broadcast(int root, std::span<std::byte> bytes) override {
    for_pieces(bytes, [&](std::byte* piece, int count) {
      collective("cannot broadcast",
                 [&](MPI_Request* r) { return MPI_Ibcast(piece, count, MPI_BYTE, root, MPI_COMM_WORLD, r); });
    });
  }
  void all_gather(std::span<const std::byte> own, std::span<std::byte> all) override {
    FOVEA_CHECK(all.size() == own.size() * static_cast<size_t>(size_));
    FOVEA_CHECK(static_cast<int64_t>(own.size()) <= kLargestMessage);
    const int count = static_cast<int>(own.size());
    collective("cannot gather", [&](MPI_Request* r) {
      return MPI_Iallgather(own.data(), count, MPI_BYTE, all.data(), count, MPI_BYTE, MPI_COMM_WORLD, r);
    });
  }
  std::unique_ptr<SharedBytes> share(SharedBytes::Read read) override {
    return std::make_unique<MpiSharedBytes>(MPI_COMM_WORLD, std::move(read));
  }

 private:
  template <typename Start>
  static void collective(const char* what, Start start) {
    MpiTransfer transfer(what, false);  // a collective cannot be cancelled
    check(start(&transfer.add()), what);
    transfer.wait();
  }

  int rank_ = 0, size_ = 1;
};

}  // namespace

bool built_with_mpi() { return true; }

std::string mpi_version() {
  char text[MPI_MAX_LIBRARY_VERSION_STRING];
  int length = 0;
  if (MPI_Get_library_version(text, &length) != MPI_SUCCESS)
    return "unknown";  // may be asked before MPI_Init
  const std::string version(text, static_cast<size_t>(length));
  return version.substr(0, version.find_first_of(",\n\t"));
}

std::unique_ptr<Communicator> mpi_communicator() { return std::make_unique<MpiWorld>(); }

void abort_mpi(int exit_code) {
  int initialised = 0, finalised = 0;
  MPI_Initialized(&initialised);
  MPI_Finalized(&finalised);
  if (initialised != 0 && finalised == 0) MPI_Abort(MPI_COMM_WORLD, exit_code);
}

}  // namespace fovea
