// What all public headers need: which symbols the library shows, and where they are.
#pragma once

#define FOVEA_API __attribute__((visibility("default")))

// Callers write fovea::Engine; the symbols say fovea::v0, so that a program that was built with other headers
// does not link. Within the library itself fovea::Engine is another class, so there the version is written.
#ifdef FOVEA_WITHIN_LIBRARY
#define FOVEA_INLINE
#else
#define FOVEA_INLINE inline
#endif
