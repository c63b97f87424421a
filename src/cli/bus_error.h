// A mapped file that another process shortens ends this one by SIGBUS; these are its last words.
#pragma once

namespace fovea {

// From now on such an end names the file and a remedy on standard error, and the exit code is 1.
void explain_bus_errors();

}  // namespace fovea
