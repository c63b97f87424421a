// Which rates of frames are believed: the one bound for message fields, flags and options.
#pragma once

namespace fovea {

// Frames per second: from one a day, as in a time lapse, to those of a high-speed camera. Far below, the
// times of frames would be no positions that the model's arithmetic can tell apart.
inline constexpr double kFrameRateMin = 1e-5, kFrameRateMax = 1e5;

inline bool is_frame_rate(double fps) { return fps >= kFrameRateMin && fps <= kFrameRateMax; }

}  // namespace fovea
