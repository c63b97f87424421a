# What `make install` copies beside the program and the library, and what `make deb` packs.
include(GNUInstallDirs)
install(FILES README.md CHANGELOG.md LICENSE THIRD_PARTY.md DESTINATION ${CMAKE_INSTALL_DOCDIR})
install(DIRECTORY models/fovea-demo demo DESTINATION ${CMAKE_INSTALL_DATADIR}/fovea)

# Written by the program itself, so that they know its options.
if(TARGET fovea AND NOT CMAKE_CROSSCOMPILING)
  foreach(shell bash zsh fish)
    set(script ${PROJECT_BINARY_DIR}/completion/${shell})
    add_custom_command(OUTPUT ${script} COMMAND ${CMAKE_COMMAND} -E make_directory ${PROJECT_BINARY_DIR}/completion
      COMMAND $<TARGET_FILE:fovea> completion ${shell} > ${script} DEPENDS fovea VERBATIM)
    list(APPEND scripts ${script})
  endforeach()
  add_custom_target(completion DEPENDS ${scripts})
  install(FILES ${PROJECT_BINARY_DIR}/completion/bash OPTIONAL
    DESTINATION ${CMAKE_INSTALL_DATADIR}/bash-completion/completions RENAME fovea)
  install(FILES ${PROJECT_BINARY_DIR}/completion/zsh OPTIONAL
    DESTINATION ${CMAKE_INSTALL_DATADIR}/zsh/vendor-completions RENAME _fovea)
  install(FILES ${PROJECT_BINARY_DIR}/completion/fish OPTIONAL
    DESTINATION ${CMAKE_INSTALL_DATADIR}/fish/vendor_completions.d RENAME fovea.fish)
endif()

set(CPACK_PACKAGE_NAME fovea)
set(CPACK_PACKAGE_VENDOR "the fovea authors")
set(CPACK_PACKAGE_CONTACT "the fovea authors <fovea@localhost>")
set(CPACK_PACKAGE_DESCRIPTION_SUMMARY "runs Qwen2.5-VL vision-language models on CPUs, attention provably faithful")
set(CPACK_PACKAGE_DESCRIPTION
  "fovea answers questions about images, videos and text with Qwen2.5-VL checkpoints, token for token like the
reference; it audits what each attention implementation and dtype does to a model, serves OpenAI's API, and comes
with a C++ library and a small model to try.")
set(CPACK_PACKAGING_INSTALL_PREFIX /usr)
set(CPACK_STRIP_FILES ON)
set(CPACK_GENERATOR DEB)
set(CPACK_DEBIAN_FILE_NAME DEB-DEFAULT)
set(CPACK_DEBIAN_PACKAGE_SECTION science)
# From what the files link: the packages of the release that this is built on.
set(CPACK_DEBIAN_PACKAGE_SHLIBDEPS ON)
set(CPACK_DEBIAN_PACKAGE_SUGGESTS openmpi-bin)
set(CPACK_OUTPUT_FILE_PREFIX packages)
include(CPack)
