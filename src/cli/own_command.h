// The command line that this process was started with, for reports that say how they were made.
#pragma once

#include <string>
#include <vector>

namespace fovea {

// First thing that main() does with its arguments.
void keep_command(int argc, char** argv);

// The words that do the same again in the same folder: with the model that FOVEA_MODEL named, and without
// --resume, whose file is gone when the work is done. Empty where mpirun started several ranks: their command
// is mpirun's.
std::vector<std::string> command_to_repeat(const std::string& model);

}  // namespace fovea
