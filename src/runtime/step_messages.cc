#include "runtime/step_messages.h"

#include <array>
#include <cstring>
#include <string>
#include <utility>

#include "base/error.h"

namespace fovea {

namespace {

constexpr int kHeader = 20, kBody = 21;

class Writer {
 public:
  template <typename T>
  void put(const T& value) {
    put_bytes(std::as_bytes(std::span(&value, 1)));
  }
  template <typename T>
  void put_all(std::span<const T> values) {
    put(static_cast<int64_t>(values.size()));
    put_bytes(std::as_bytes(values));
  }
  std::vector<std::byte> bytes() { return std::move(bytes_); }

 private:
  void put_bytes(std::span<const std::byte> bytes) {
    bytes_.insert(bytes_.end(), bytes.begin(), bytes.end());
  }

  std::vector<std::byte> bytes_;
};

class Reader {
 public:
  explicit Reader(std::span<const std::byte> bytes) : bytes_(bytes) {}

  template <typename T>
  T get() {
    T value;
    take(&value, sizeof value);
    return value;
  }
  template <typename T>
  void get_all(T& to) {  // a vector or a string
    const auto count = static_cast<size_t>(get<int64_t>());
    FOVEA_CHECK(count <= bytes_.size() / sizeof(typename T::value_type));
    to.resize(count);
    take(to.data(), count * sizeof(typename T::value_type));
  }
  bool at_end() const { return bytes_.empty(); }

 private:
  void take(void* to, size_t count) {
    FOVEA_CHECK(count <= bytes_.size());
    if (count > 0) std::memcpy(to, bytes_.data(), count);
    bytes_ = bytes_.subspan(count);
  }

  std::span<const std::byte> bytes_;
};

struct PictureWords {
  uint64_t number;
  int64_t first, end;
  Grid grid;
};

}  // namespace

std::vector<std::byte> message_of(const StepOrder& order, std::span<const RequestId> ended,
                                  std::span<const uint64_t> dropped_pictures) {
  Writer writer;
  writer.put(order.number);
  writer.put_all(ended);
  writer.put_all(std::span(order.forgotten));
  writer.put_all(dropped_pictures);
  writer.put_all(std::span(order.copies));
  writer.put(static_cast<int64_t>(order.segments.size()));
  for (const SegmentOrder& segment : order.segments) {
    const StepSegment& rows = segment.rows;
    writer.put(
        std::array{static_cast<int64_t>(rows.request), rows.first, rows.count, rows.logits, rows.table_from});
    writer.put_all(std::span(rows.table));
    for (const auto& axis : segment.positions) writer.put_all(axis);
  }
  writer.put(int64_t{order.picture ? 1 : 0});
  if (order.picture) {
    const PictureOrder& picture = *order.picture;
    writer.put(PictureWords{picture.number, picture.first, picture.end, picture.grid});
  }
  return writer.bytes();
}

void read_message(std::span<const std::byte> bytes, ReceivedOrder& to) {
  Reader reader(bytes);
  StepOrder& order = to.order;
  order.number = reader.get<int64_t>();
  reader.get_all(order.forgotten);
  std::vector<RequestId> preempted;
  reader.get_all(preempted);
  order.forgotten.insert(order.forgotten.end(), preempted.begin(), preempted.end());
  reader.get_all(to.dropped_pictures);
  reader.get_all(order.copies);
  order.segments.clear();
  order.segments.resize(static_cast<size_t>(reader.get<int64_t>()));
  to.positions.resize(3 * order.segments.size());
  for (size_t i = 0; i < order.segments.size(); ++i) {
    StepSegment& rows = order.segments[i].rows;
    const auto words = reader.get<std::array<int64_t, 5>>();
    rows.request = static_cast<RequestId>(words[0]);
    rows.first = words[1];
    rows.count = words[2];
    rows.logits = words[3];
    rows.table_from = words[4];
    reader.get_all(rows.table);
    for (size_t axis = 0; axis < 3; ++axis) {
      reader.get_all(to.positions[3 * i + axis]);
      order.segments[i].positions[axis] = to.positions[3 * i + axis];
    }
  }
  order.picture.reset();
  if (reader.get<int64_t>() != 0) {
    const auto words = reader.get<PictureWords>();
    order.picture = {words.number, words.first, words.end, words.grid};
  }
  FOVEA_CHECK(reader.at_end());
}

std::vector<std::byte> message_of(std::span<const std::exception_ptr> failures) {
  Writer writer;
  bool any = false;
  for (size_t i = 0; i < failures.size(); ++i) {
    if (!failures[i]) continue;
    any = true;
    try {
      std::rethrow_exception(failures[i]);
    } catch (const Error& error) {
      writer.put(static_cast<int64_t>(i));
      writer.put(error.kind());
      writer.put_all(std::span<const char>(error.message()));
      writer.put_all(std::span<const char>(error.remedy()));
    }
  }
  return any ? writer.bytes() : std::vector<std::byte>();
}

void read_message(std::span<const std::byte> bytes, std::span<std::exception_ptr> failures) {
  Reader reader(bytes);
  while (!reader.at_end()) {
    const auto index = static_cast<size_t>(reader.get<int64_t>());
    const auto kind = reader.get<ErrorKind>();
    std::string message, remedy;
    reader.get_all(message);
    reader.get_all(remedy);
    FOVEA_CHECK(index < failures.size());
    failures[index] = std::make_exception_ptr(Error(kind, message, remedy));
  }
}

// ---- of a step ----

void StepMessages::settle() {
  for (const auto& transfer : sends_) transfer->wait();
  sends_.clear();
  sent_.clear();
}

void StepMessages::send(int to, int tag, std::vector<std::byte> bytes) {
  sent_.push_back(std::move(bytes));
  sends_.push_back(ranks_.start_send(to, tag, sent_.back()));
}

void StepMessages::send(int to, Kind kind, std::span<const float> values) {
  sends_.push_back(ranks_.start_send(to, tag(kind), std::as_bytes(values)));
}

void StepMessages::receive(int from, Kind kind, std::span<float> values) {
  start_receive(from, kind, values)->wait();
}

std::unique_ptr<Transfer> StepMessages::start_receive(int from, Kind kind, std::span<float> values) {
  return ranks_.start_receive(from, tag(kind), std::as_writable_bytes(values));
}

void StepMessages::send_failures(int to, std::span<const std::exception_ptr> failures, Kind kind) {
  std::vector<std::byte> message = message_of(failures);
  Writer size;
  size.put(static_cast<int64_t>(message.size()));
  send(to, tag(kind), size.bytes());
  if (!message.empty()) send(to, tag(kind), std::move(message));
}

void StepMessages::receive_failures(int from, std::span<std::exception_ptr> failures, Kind kind) {
  int64_t size = 0;
  ranks_.receive(from, tag(kind), std::as_writable_bytes(std::span(&size, 1)));
  if (size == 0) return;
  std::vector<std::byte> message(static_cast<size_t>(size));
  ranks_.receive(from, tag(kind), message);
  read_message(message, failures);
}

// ---- orders ----

void OrderSender::open(int64_t blocks) {
  Writer writer;
  writer.put(blocks);
  tell(static_cast<int64_t>(RankOrder::What::open), writer.bytes());
}
void OrderSender::step(std::vector<std::byte> message) {
  tell(static_cast<int64_t>(RankOrder::What::step), std::move(message));
}
void OrderSender::close() {
  tell(static_cast<int64_t>(RankOrder::What::close), {});
  settle(0);
}
void OrderSender::release() {
  tell(static_cast<int64_t>(RankOrder::What::release), {});
  settle(0);
}

// What the message is and its size; then the message.
void OrderSender::tell(int64_t what, std::vector<std::byte> message) {
  settle(static_cast<size_t>(StepMessages::kSteps));
  Writer header;
  header.put(what);
  header.put(static_cast<int64_t>(message.size()));
  send(kHeader, header.bytes());
  if (!message.empty()) send(kBody, std::move(message));
}

void OrderSender::send(int tag, std::vector<std::byte> bytes) {
  auto& [kept, transfers] = sent_.emplace_back(std::move(bytes), Transfers());
  for (int rank = 1; rank < ranks_.size(); ++rank) transfers.push_back(ranks_.start_send(rank, tag, kept));
}

void OrderSender::settle(size_t most) {
  for (; sent_.size() > most; sent_.pop_front()) {
    for (const auto& transfer : sent_.front().second) transfer->wait();
  }
}

RankOrder receive_order(Communicator& ranks) {
  std::array<int64_t, 2> header{};
  ranks.receive(0, kHeader, std::as_writable_bytes(std::span(header)));
  RankOrder order;
  order.what = static_cast<RankOrder::What>(header[0]);
  order.message.resize(static_cast<size_t>(header[1]));
  if (!order.message.empty()) ranks.receive(0, kBody, order.message);
  if (order.what == RankOrder::What::open) order.blocks = Reader(order.message).get<int64_t>();
  return order;
}

}  // namespace fovea
