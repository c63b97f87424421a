// Between the phases of a request.
#pragma once

namespace fovea {

// Gives memory that was freed, but that malloc keeps for later, back to the system, so that the peak of one
// phase does not stand below the next one's. Takes about a millisecond; does nothing where malloc cannot.
void return_freed_memory();

}  // namespace fovea
