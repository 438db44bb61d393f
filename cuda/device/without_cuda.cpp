// SPDX-License-Identifier: Apache-2.0
// Answers of a build without the CUDA toolkit: unsupported.
#include "cuda/device/cuda_copy_device.hpp"
#include "cuda/device/device_pool.hpp"

namespace kvferry {

namespace {

caf::error not_built() {
    return make_error(errc::unsupported,
                      "this build has no CUDA: build with nvcc and without KVFERRY_CUDA=OFF");
}

} // namespace

caf::expected<std::unique_ptr<copy_device>> make_cuda_copy_device(cuda_copy_device_options) {
    return not_built();
}

caf::expected<std::unique_ptr<device_pool>> make_device_pool(int, std::uint64_t, std::uint64_t) {
    return not_built();
}

caf::expected<std::unique_ptr<pool_copy>> make_pool_copy(int, const copy_end&, const copy_end&) {
    return not_built();
}

caf::expected<int> cuda_device_of(const std::byte*) {
    return not_built();
}

} // namespace kvferry
