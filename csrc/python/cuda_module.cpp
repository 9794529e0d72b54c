#include "python/cuda_bindings.h"

namespace {

// 0 where there is no device, or no driver.
int device_count() {
#if defined(PYREC_ON_CPU)
    return 0;
#else
    int count = 0;
    return cudaGetDeviceCount(&count) == cudaSuccess ? count : 0;
#endif
}

}  // namespace

PYBIND11_MODULE(PYREC_CUDA_MODULE, m, pybind11::mod_gil_not_used()) {
    m.doc() = "CUDA kernels over addresses on a device; see pyrec.kernels.gpu for who calls them.";
    m.def("device_count", &device_count);
    pyrec::cuda::bind_networks(m);
    pyrec::cuda::bind_rankings(m);
    pyrec::cuda::bind_samplers(m);
    pyrec::cuda::bind_solvers(m);
}
