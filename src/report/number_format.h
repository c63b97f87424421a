// Numbers as people read them.
#pragma once

#include <cstdint>
#include <string>

namespace fovea::report {

std::string percent(double share);        // 0.8333 is "83.3 %"
std::string points(double difference);    // -0.021 is "−2.1 pp": percentage points, with a sign
std::string small_number(double value);   // three digits: "0.0123", "4.5e-07", "0"
std::string count_of(double value);       // "12 345", with narrow no-break spaces
std::string size_of(double bytes);        // "1234.5 MB": 10^6 bytes, as the terminal
std::string duration_of(double seconds);  // "430 ms", "12.3 s", "4 min 05 s", "2 h 03 min"

}  // namespace fovea::report
