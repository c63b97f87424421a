// A response that is kept, for tests without sockets.
#pragma once

#include <gtest/gtest.h>

#include <chrono>
#include <condition_variable>
#include <mutex>

#include "serve/http_message.h"

namespace fovea {

class KeptAnswer final : public ResponseWriter {
 public:
  void respond(HttpResponse response) override { keep(std::move(response), true); }
  void begin(HttpResponse head, std::string while_silent) override {
    EXPECT_EQ(while_silent, ": ping\n\n");
    keep(std::move(head), false);
  }
  bool write(std::string_view piece) override {
    const std::lock_guard lock(mutex_);
    if (gone_) return false;
    response_.body += piece;
    changed_.notify_all();
    return true;
  }
  void end() override {
    const std::lock_guard lock(mutex_);
    over_ = true;
    changed_.notify_all();
  }
  void on_gone(std::function<void()> gone) override {
    const std::lock_guard lock(mutex_);
    on_gone_ = std::move(gone);
  }

  void go() {
    std::function<void()> call;
    {
      const std::lock_guard lock(mutex_);
      gone_ = true;
      call = on_gone_;
    }
    if (call) call();
  }
  HttpResponse wait() {
    return wait_for([&] { return over_; });
  }
  HttpResponse wait_for_piece() {
    return wait_for([&] { return over_ || !response_.body.empty(); });
  }

 private:
  template <class Holds>
  HttpResponse wait_for(const Holds& holds) {
    std::unique_lock lock(mutex_);
    EXPECT_TRUE(changed_.wait_for(lock, std::chrono::seconds(120), holds));
    return response_;
  }
  void keep(HttpResponse response, bool over) {
    const std::lock_guard lock(mutex_);
    EXPECT_FALSE(begun_) << "answered twice";
    begun_ = true;
    response_ = std::move(response);
    over_ = over;
    changed_.notify_all();
  }

  std::mutex mutex_;
  std::condition_variable changed_;
  HttpResponse response_;
  std::function<void()> on_gone_;
  bool begun_ = false, over_ = false, gone_ = false;
};

}  // namespace fovea
