# Files as bytes in a C++ source: cmake -DOUT=page_bytes.cc -DFOLDER=... -DFILES="a.html;b.css" -P embed.cmake
# writes `const EmbeddedFile kFiles[]` of src/serve/page.h, in the order given.
set(text "// Made by cmake/embed.cmake.\n#include \"serve/page.h\"\n\nnamespace fovea {\nnamespace {\n\n")
set(table "")
set(number 0)
string(REPEAT "." 100 line)  # twenty bytes
foreach(file IN LISTS FILES)
  file(READ "${FOLDER}/${file}" hex HEX)
  string(REGEX REPLACE "([0-9a-f][0-9a-f])" "0x\\1," bytes "${hex}")
  string(REGEX REPLACE "(${line})" "\\1\n" bytes "${bytes}")
  string(APPEND text "constexpr unsigned char kBytes${number}[] = {\n${bytes}};\n\n")
  string(APPEND table "    {\"${file}\", kBytes${number}, sizeof kBytes${number}},\n")
  math(EXPR number "${number} + 1")
endforeach()
string(APPEND text "}  // namespace\n\nstd::span<const EmbeddedFile> embedded_files() {\n  static constexpr EmbeddedFile kFiles[] = {\n${table}  };\n  return kFiles;\n}\n\n}  // namespace fovea\n")
file(WRITE "${OUT}" "${text}")
