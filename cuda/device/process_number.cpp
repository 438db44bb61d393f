// SPDX-License-Identifier: Apache-2.0
// A random number, since containers on one machine may use the same process ids.
#include "cuda/device/process_number.hpp"

#include <random>

namespace kvferry {

std::uint64_t process_number() {
    static const std::uint64_t drawn = [] {
        std::random_device entropy;
        return (std::uint64_t{entropy()} << 32) | entropy();
    }();
    return drawn;
}

} // namespace kvferry
