// A device map in either form: what can be read reads back equal.
#include "runtime/device_map.h"
#include "target.h"

FOVEA_FUZZ_TARGET(device_map) {
  const fovea::DeviceMap map = fovea::DeviceMap::parse(bytes, 5);
  fovea::fuzz::require(fovea::DeviceMap::parse(map.text(), 5) == map, "the text form reads back equal");
  map.require_ranks(3);
}
