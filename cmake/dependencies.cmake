# Every library fovea stands on; docs/dependencies.md says what each is for and why it was chosen. The least versions
# are those of Ubuntu 22.04, the oldest distribution whose packages are meant to do; older ones were never tried.
find_package(PkgConfig REQUIRED)
find_package(Threads REQUIRED)
find_package(nlohmann_json 3.10.5 REQUIRED)
find_package(CLI11 2.1 REQUIRED)
find_package(fmt 8.1 REQUIRED)
find_package(JPEG 62 REQUIRED)  # the version of the interface
find_package(PNG 1.6.37 REQUIRED)
find_package(TIFF 4.3 REQUIRED)
pkg_check_modules(webp REQUIRED IMPORTED_TARGET libwebp>=1.2.2)
pkg_check_modules(pcre2 REQUIRED IMPORTED_TARGET libpcre2-8>=10.39)
pkg_check_modules(utf8proc REQUIRED IMPORTED_TARGET libutf8proc>=2.4)  # the version of its interface, behind that of the package
pkg_check_modules(libedit REQUIRED IMPORTED_TARGET libedit>=3.1)
pkg_check_modules(lzma REQUIRED IMPORTED_TARGET liblzma>=5.2.5)
pkg_check_modules(pugixml REQUIRED IMPORTED_TARGET pugixml>=1.12)
pkg_check_modules(ffmpeg REQUIRED IMPORTED_TARGET libavformat>=58.76 libavcodec>=58.134 libswscale>=5.9
  libavutil>=56.70)
find_package(OpenSSL 3.0 REQUIRED)
find_package(Threads REQUIRED)
find_package(Boost 1.74 CONFIG REQUIRED)  # Beast and Asio, which are headers alone
# Several processes: libopenmpi-dev or libmpich-dev. AUTO takes MPI where it is there.
if(NOT FOVEA_MPI STREQUAL "OFF")
  find_package(MPI COMPONENTS C)
  if(FOVEA_MPI STREQUAL "ON" AND NOT MPI_C_FOUND)
    message(FATAL_ERROR "FOVEA_MPI is ON, but there is no MPI: install libopenmpi-dev and openmpi-bin (or libmpich-dev and mpich)")
  elseif(NOT MPI_C_FOUND)
    message(STATUS "no MPI: fovea is built for one process (install libopenmpi-dev and openmpi-bin for several)")
  endif()
endif()
if(FOVEA_TESTS)
  find_package(GTest 1.11 REQUIRED)
endif()
