// Building HTML and SVG as a tree: pugixml escapes every text and attribute when the tree is written, so
// nothing that comes from a file or a model can become markup.
#pragma once

#include <pugixml.hpp>
#include <string>
#include <string_view>
#include <vector>

namespace fovea::report {

using Node = pugi::xml_node;

// Appends <tag class="css_class">text</tag> to parent; an empty class or text is left out.
Node add(Node parent, const char* tag, std::string_view css_class = {}, std::string_view text = {});
// Appends text to what the element already holds.
void add_text(Node parent, std::string_view text);
void set(Node element, const char* attribute, std::string_view value);
void set(Node element, const char* attribute, double value);

// The element with this id below root; aborts when the template lacks it.
Node by_id(Node root, const char* id);
void remove(Node element);

// A table whose first column is a row header. A narrow screen scrolls it in a box of its own, or with the
// class "stack" shows each row as a block whose cells carry their column's title.
class Table {
 public:
  Table(Node parent, std::string_view caption, std::string_view css_class = {});
  // numeric: aligned to the right.
  void column(std::string_view title, bool numeric = true);
  // Starts a row and returns its header cell.
  Node row(std::string_view header);
  Node cell(std::string_view text, std::string_view css_class = {});

 private:
  Node head_, body_, current_;
  struct Column {
    std::string title;
    bool numeric;
  };
  std::vector<Column> columns_;
  bool is_stack_;
  size_t at_ = 0;
};

// The document as HTML5 that is also well-formed XML.
std::string serialise(const pugi::xml_document& document);

}  // namespace fovea::report
