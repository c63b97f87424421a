// Which folder a model's name means.
#pragma once

#include <filesystem>
#include <string>

namespace fovea {

// A folder or file itself; or ORG/NAME, as the Hugging Face hub calls a model, with @REVISION (a branch, a
// tag or a commit) for another than main: the snapshot of it in `hub_cache`, where huggingface_hub keeps what
// was downloaded (models--ORG--NAME/refs, snapshots). A folder of that path goes first; what is neither comes
// back as it is. Nothing is downloaded. Throws Error(not_found) with the command that downloads it when the
// cache lacks the model, the revision or some of its files.
std::filesystem::path find_model(const std::string& model, const std::filesystem::path& hub_cache);

// How the names of folders that are made from the model in `dir` begin: they lie beside it, but in the
// working folder if it is a snapshot of the cache, where only downloads belong.
std::string place_beside(const std::filesystem::path& dir);

}  // namespace fovea
