// How far each picture's encoding is. Equal pictures are one work, whoever has them, so they are encoded once
// while the others wait.
#pragma once

#include <cstdint>
#include <span>
#include <unordered_map>

#include "schedule/request.h"

namespace fovea {

class VisionWork {
 public:
  // A request with these pictures comes, or goes. What has been done for a picture is forgotten with the last
  // request that has it.
  void add(std::span<const PromptPicture> pictures);
  void remove(std::span<const PromptPicture> pictures);

  // Of a picture that some request has:
  int64_t done(uint64_t number) const { return works_.at(number).done; }
  int64_t left(uint64_t number) const { return works_.at(number).units - works_.at(number).done; }
  bool encoded(uint64_t number) const { return left(number) == 0; }
  // Units before `done` are encoded; there may be more already, from a request that brought all of them.
  void reach(uint64_t number, int64_t done);

  // The picture has to be encoded from its beginning. Nothing happens if no request has it.
  void forget(uint64_t number);

 private:
  struct Work {
    int64_t units = 0, done = 0, owners = 0;
  };
  std::unordered_map<uint64_t, Work> works_;  // by the picture's number
};

}  // namespace fovea
