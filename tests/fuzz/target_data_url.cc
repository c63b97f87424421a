// The source of a picture as a message states it: data: URL, file: URL or path.
#include "media/source.h"
#include "target.h"

FOVEA_FUZZ_TARGET(data_url) {
  if (fovea::is_data_url(bytes)) {
    fovea::decode_data_url(bytes);
  } else {
    fovea::local_path(std::string(bytes));
  }
}
