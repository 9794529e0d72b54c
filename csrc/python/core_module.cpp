#include "core/isa.h"
#include "python/bindings.h"

namespace {

std::string instruction_set() {
#if PYREC_HAS_CLONES
    __builtin_cpu_init();
    if (__builtin_cpu_supports("x86-64-v4")) return "x86-64-v4";
    if (__builtin_cpu_supports("x86-64-v3")) return "x86-64-v3";
#endif
    return "default";
}

}  // namespace

PYBIND11_MODULE(_core, m, pybind11::mod_gil_not_used()) {
    m.doc() = "CPU kernels over borrowed NumPy buffers; see pyrec.kernels for the public face.";
    m.attr("__version__") = PYREC_VERSION;
    m.def("instruction_set", &instruction_set);
    pyrec::bind_solvers(m);
    pyrec::bind_rankings(m);
    pyrec::bind_networks(m);
    pyrec::bind_samplers(m);
    pyrec::bind_examples(m);
}
