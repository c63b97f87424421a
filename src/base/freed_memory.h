// Between the phases of a request.
#pragma once

namespace fovea {

// Gives memory that was freed, but that malloc keeps for later, back to the system, so that the peak of one
// phase does not stand below the next one's. Takes about a millisecond; does nothing where malloc cannot.
void return_freed_memory();

// For a program that plans its memory: from now on blocks of 1 MiB and more go back to the system as soon as
// they are freed. By default malloc keeps what it has seen freed once, up to 32 MiB a block.
void free_large_blocks_at_once();

}  // namespace fovea
