#include "report/html.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "base/error.h"

namespace fovea::report {
namespace {

// pugixml takes C strings; a NUL inside must not cut the rest off.
std::string printable(std::string_view text) {
  std::string result;
  result.reserve(text.size());
  for (char c : text) {
    if (c == '\0') {
      result += "\xEF\xBF\xBD";
    } else {
      result += c;
    }
  }
  return result;
}

// HTML reads <div/> as an open tag: an element without content gets an empty text, which writes <div></div>.
struct CloseEmptyElements : pugi::xml_tree_walker {
  bool for_each(Node& node) override {
    constexpr std::array<std::string_view, 5> kVoid = {"meta", "link", "br", "hr", "img"};
    const bool is_void = std::find(kVoid.begin(), kVoid.end(), std::string_view(node.name())) != kVoid.end();
    if (node.type() == pugi::node_element && !node.first_child() && !is_void) {
      node.append_child(pugi::node_pcdata).set_value("");
    }
    return true;
  }
};

struct StringWriter : pugi::xml_writer {
  std::string text;
  void write(const void* data, size_t size) override { text.append(static_cast<const char*>(data), size); }
};

}  // namespace

Node add(Node parent, const char* tag, std::string_view css_class, std::string_view text) {
  Node element = parent.append_child(tag);
  if (!css_class.empty()) set(element, "class", css_class);
  if (!text.empty()) add_text(element, text);
  return element;
}

void add_text(Node parent, std::string_view text) {
  parent.append_child(pugi::node_pcdata).set_value(printable(text).c_str());
}

void set(Node element, const char* attribute, std::string_view value) {
  pugi::xml_attribute found = element.attribute(attribute);
  if (!found) found = element.append_attribute(attribute);
  found.set_value(printable(value).c_str());
}

void set(Node element, const char* attribute, double value) {
  set(element, attribute, fmt::format("{:.6g}", value));
}

Node by_id(Node root, const char* id) {
  const Node found =
      root.find_node([&](const Node& node) { return std::string_view(node.attribute("id").value()) == id; });
  FOVEA_CHECK(found);
  return found;
}

void remove(Node element) { element.parent().remove_child(element); }

Table::Table(Node parent, std::string_view caption, std::string_view css_class) {
  is_stack_ = css_class.rfind("stack", 0) == 0;
  Node box = add(parent, "div", "scroll");
  set(box, "role", "region");
  set(box, "aria-label", caption);
  set(box, "tabindex", "0");
  Node table = add(box, "table", css_class);
  add(table, "caption", {}, caption);
  head_ = add(add(table, "thead"), "tr");
  body_ = add(table, "tbody");
}

void Table::column(std::string_view title, bool numeric) {
  set(add(head_, "th", numeric ? "n" : "", title), "scope", "col");
  columns_.push_back({std::string(title), numeric});
}

Node Table::row(std::string_view header) {
  current_ = add(body_, "tr");
  at_ = 1;
  Node cell = add(current_, "th", {}, header);
  set(cell, "scope", "row");
  return cell;
}

Node Table::cell(std::string_view text, std::string_view css_class) {
  FOVEA_CHECK(at_ < columns_.size());
  const Column& column = columns_[at_++];
  std::string classes = column.numeric ? "n" : "";
  if (!classes.empty() && !css_class.empty()) classes += ' ';
  classes += css_class;
  Node cell = add(current_, "td", classes, text);
  if (is_stack_) set(cell, "data-label", column.title);
  return cell;
}

std::string serialise(const pugi::xml_document& document) {
  StringWriter writer;
  CloseEmptyElements closer;
  pugi::xml_document copy;
  copy.reset(document);
  copy.traverse(closer);
  copy.save(writer, "", pugi::format_raw | pugi::format_no_declaration | pugi::format_skip_control_chars,
            pugi::encoding_utf8);
  return std::move(writer.text);
}

}  // namespace fovea::report
