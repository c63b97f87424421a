#include <nanobind/stl/string.h>
#include <nanobind/stl/string_view.h>

#include "base/error.h"
#include "binding/bindings.h"
#include "binding/threads.h"
#include "report/report.h"

namespace nb = nanobind;

namespace {

// fovea.Error(kind, message, remedy)
void translate(const std::exception_ptr& exception, void*) {
  try {
    std::rethrow_exception(exception);
  } catch (const fovea::Error& error) {
    const nb::object type = nb::module_::import_("fovea.errors").attr("Error");
    const nb::object value = type(fovea::name_of(error.kind()), error.message(), error.remedy());
    PyErr_SetObject(type.ptr(), value.ptr());
  }
}

}  // namespace

NB_MODULE(_fovea, module) {
  nb::register_exception_translator(translate);
  module.def("default_threads", &fovea::python::default_threads, nb::call_guard<nb::gil_scoped_release>());
  module.def("html_report", &fovea::html_report_of_text, nb::arg("json"),
             nb::call_guard<nb::gil_scoped_release>());
  fovea::python::add_engine(module);
  fovea::python::add_attention(module);
}
